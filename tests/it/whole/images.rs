//! The images that pods run.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::process::{folder, output};
use crate::whole::site::{PATIENCE, Site};

/// Under what name the nodes know the image that the test makes.
const REPOSITORY: &str = "localhost/tunnel-registry";

/// An image on the nodes, or that they can pull.
pub struct Image {
    repository: String,
    tag: String,
}

/// What the release and the clients run.
pub struct Images {
    pub registry: Image,
    pub gost: Image,
}

impl Image {
    pub fn named(name: &str) -> Self {
        let (repository, tag) = name.rsplit_once(':').expect("REPOSITORY:TAG");
        Self {
            repository: repository.into(),
            tag: tag.into(),
        }
    }

    pub fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// As the chart's values name it.
    pub fn values(&self) -> Value {
        json!({"registry": "", "repository": self.repository, "tag": self.tag})
    }
}

/// Makes the registry's image of what is tested, and brings it onto the nodes.
pub async fn load(site: &Site) -> Images {
    let folder = folder();
    let archive = folder.path().join("image.tar");
    // A tag of its own: nodes keep what they know under a name.
    let name = format!("{REPOSITORY}:{:08x}", fastrand::u32(..));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/image");
    let mut command = Command::new(script);
    command
        .args(["--profile", "dev", "--name", &name])
        .arg(&archive);
    output(&mut command, PATIENCE).await.unwrap();
    site.load(&archive).await;
    Images {
        registry: Image::named(&name),
        gost: Image::named(&site.gost),
    }
}
