//! Completions for shells, and manual pages: made of the description of the command
//! line, so that they always fit the program.

use std::io;
use std::path::Path;

use clap_complete::Shell;

use crate::args;

/// What a shell completes command lines with.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    let mut command = args::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut text);
    match shell {
        Shell::Bash => whole(&text).into(),
        _ => text,
    }
}

/// The script for bash with names that fit each other: clap_complete 4.6 takes the
/// dash in the program's name for the end of a command in some of them, so nothing
/// behind the first word would be completed.
fn whole(script: &[u8]) -> String {
    let script = String::from_utf8_lossy(script);
    script.replace("tunnel__subcmd__registry", "tunnel__registry")
}

/// The manual page of the program.
///
/// # Errors
/// Never, for what is written to memory.
pub fn manual() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(args::command()).render(&mut text)?;
    Ok(text)
}

/// Writes the manual pages of the program and of all its commands into a folder,
/// which is made if need be.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write_manual(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(args::command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completions(shell)).unwrap();
            for word in ["register", "leader", "healthcheck", "server"] {
                assert!(text.contains(word), "{shell} does not know {word}");
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let text = String::from_utf8(manual().unwrap()).unwrap();
        assert!(text.contains(".TH tunnel-registry 1"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("man/man1");
        write_manual(&folder).unwrap();
        for page in ["", "-serve", "-get", "-register", "-service-create"] {
            let path = folder.join(format!("tunnel-registry{page}.1"));
            assert!(path.exists(), "{path:?}");
        }
    }
}
