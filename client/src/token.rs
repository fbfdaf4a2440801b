//! The token that requests carry.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use http::HeaderValue;

use crate::Error;

/// The longest file of tokens that is read, in bytes: as many as the registry takes.
const MAX_BYTES: u64 = 64 * 4_097;

/// Where the token comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Token {
    /// There is none.
    #[default]
    None,
    /// Always the same.
    Fixed(HeaderValue),
    /// The first one in a file, which may be replaced at any time.
    File(PathBuf),
}

impl Token {
    /// What stands in the header `Authorization` now.
    pub async fn header(&self) -> Result<Option<HeaderValue>, Error> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(value) => Ok(Some(value.clone())),
            Self::File(path) => {
                let failed = |reason| Error::Token(path.clone(), reason);
                let file = path.clone();
                // A file of a line, but it may lie on a network.
                let text = tokio::task::spawn_blocking(move || read(&file)).await;
                let text = text.map_err(|error| failed(error.to_string()))?;
                let text = text.map_err(|error| failed(error.to_string()))?;
                let token = first(&text).ok_or_else(|| failed("it has no token".into()))?;
                let header = header(token);
                let header =
                    header.ok_or_else(|| failed("the token is not visible ASCII".into()))?;
                Ok(Some(header))
            }
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// The first token in a file as the registry's own: one a line, and comments.
fn first(text: &str) -> Option<&str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The header that carries a token; none for what is no token.
pub(crate) fn header(token: &str) -> Option<HeaderValue> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_of_a_file_is_sent_and_never_shown() {
        assert_eq!(first("# new\n\n one \ntwo\n"), Some("one"));
        assert_eq!(first("# none\n"), None);
        let value = header("one").unwrap();
        assert_eq!(value, "Bearer one");
        assert!(!format!("{:?}", Token::Fixed(value)).contains("one"));
        for wrong in ["", "a b", "ä", "a\n"] {
            assert!(header(wrong).is_none(), "{wrong}");
        }
    }
}
