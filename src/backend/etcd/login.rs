//! Who this process is to an etcd that asks for it: a user and a password, for
//! which it gives a token that lasts for some minutes.

use std::path::PathBuf;

use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::failure::Failure;
use super::proto::AuthenticateRequest;
use super::proto::auth_client::AuthClient;

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// A file with its password, whose last line end does not count. Read each
    /// time that etcd asks.
    pub password_file: PathBuf,
}

/// The file with the password cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}; correct --etcd-password-file")]
pub struct PasswordError {
    path: String,
    why: String,
}

pub(super) type Token = MetadataValue<Ascii>;

/// A user, and the token that it was given last.
pub(super) struct Login {
    user: User,
    given: Mutex<Given>,
}

#[derive(Clone)]
enum Given {
    /// It must be asked for.
    Nothing,
    /// etcd asks nobody who they are.
    NotAsked,
    Token(Token),
}

impl User {
    /// Reads the password.
    ///
    /// # Errors
    /// When the file cannot be read, or is empty.
    pub async fn password(&self) -> Result<String, PasswordError> {
        let wrong = |why: String| PasswordError {
            path: self.password_file.display().to_string(),
            why,
        };
        let text = tokio::fs::read_to_string(&self.password_file).await;
        let text = text.map_err(|why| wrong(why.to_string()))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        match text {
            "" => Err(wrong("is empty".into())),
            text => Ok(text.to_owned()),
        }
    }
}

impl Login {
    pub fn new(user: User) -> Self {
        Self {
            user,
            given: Mutex::new(Given::Nothing),
        }
    }

    /// What to show to etcd; none when it asks nobody. A member is asked for a
    /// token if there is none. Several may do so at once: each token holds.
    pub async fn token(&self, member: &Channel) -> Result<Option<Token>, Failure> {
        let given = self.given.lock().clone();
        match given {
            Given::NotAsked => return Ok(None),
            Given::Token(token) => return Ok(Some(token)),
            Given::Nothing => {}
        }
        let password = self.user.password().await;
        let request = AuthenticateRequest {
            name: self.user.name.clone(),
            password: password.map_err(|why| Failure::Unavailable(why.to_string()))?,
        };
        let mut client = AuthClient::new(member.clone());
        let given = match client.authenticate(Request::new(request)).await {
            Ok(answer) => {
                let token = answer.into_inner().token.parse();
                Given::Token(
                    token
                        .map_err(|_| Failure::Unavailable("etcd's token cannot be read".into()))?,
                )
            }
            Err(status) if is_not_asked(&status) => Given::NotAsked,
            Err(status) => return Err(Failure::of(&status)),
        };
        *self.given.lock() = given.clone();
        Ok(match given {
            Given::Token(token) => Some(token),
            Given::Nothing | Given::NotAsked => None,
        })
    }

    /// A token was not accepted: another one must be asked for, unless somebody
    /// has done so.
    pub fn refused(&self, token: Option<&Token>) {
        let mut given = self.given.lock();
        let is_last = match &*given {
            Given::Token(last) => Some(last) == token,
            Given::Nothing | Given::NotAsked => token.is_none(),
        };
        if is_last {
            *given = Given::Nothing;
        }
    }

    /// Whatever was given is accepted no more.
    pub fn forget(&self) {
        *self.given.lock() = Given::Nothing;
    }
}

fn is_not_asked(status: &Status) -> bool {
    status.message() == "etcdserver: authentication is not enabled"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_a_line_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let user = User {
            name: "u".into(),
            password_file: file.clone(),
        };
        let error = user.password().await.unwrap_err().to_string();
        assert!(error.contains("--etcd-password-file"), "{error}");
        for (text, password) in [
            ("a b", "a b"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(user.password().await.as_deref(), Ok(password));
        }
        std::fs::write(&file, "\n").unwrap();
        assert!(user.password().await.is_err());
    }
}
