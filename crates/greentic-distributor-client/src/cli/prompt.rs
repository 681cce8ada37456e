//! Secrets from people: typed without being shown, or read from the standard input.

use std::io::{self, Read as _};

use greentic_dist_types::Secret;

use super::CliError;

/// Longest secret, in bytes.
const SECRET_BYTES: u64 = 32 << 10;

/// The first line of the standard input: a secret a program hands over. At most 32 KiB.
pub(crate) fn from_stdin() -> Result<Secret, CliError> {
    let mut text = String::new();
    let mut limited = io::stdin().lock().take(SECRET_BYTES + 1);
    let read = limited.read_to_string(&mut text);
    let text = Secret::new(text);
    // The error may quote what was read.
    read.map_err(|_holds_a_secret| CliError::invalid("the secret on the standard input is no text"))?;
    if limited.limit() == 0 {
        return Err(CliError::invalid("the secret on the standard input is longer than 32 KiB"));
    }
    let line = text.expose().strip_suffix('\n').unwrap_or(text.expose());
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains('\n') {
        return Err(CliError::invalid("the standard input must be one line, the secret"));
    }
    Ok(Secret::new(line))
}

/// Asks for a secret on the terminal of this process, whatever its streams are. What is typed is not shown.
#[cfg(unix)]
pub(crate) fn from_terminal(prompt: &str) -> Result<Secret, CliError> {
    let failed = |error: io::Error| {
        let mut failure = CliError::internal(&format!("the secret could not be asked for: {error}"));
        failure.hints.push("without a terminal, hand it over on the standard input (`--token-stdin`)".to_owned());
        failure
    };
    terminal::ask(prompt).map_err(failed)?.ok_or_else(|| CliError::internal("nothing was typed"))
}

/// Where a terminal cannot be kept from showing what is typed.
#[cfg(not(unix))]
pub(crate) fn from_terminal(_prompt: &str) -> Result<Secret, CliError> {
    let mut failure = CliError::internal("the secret cannot be asked for on this system");
    failure.hints.push("hand it over on the standard input (`--token-stdin`)".to_owned());
    Err(failure)
}

#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::io::{self, Read as _, Write as _};

    use greentic_dist_types::{SafeText, Secret};
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

    /// A terminal that shows nothing and hands over every key, until it is dropped.
    struct Hidden<'a> {
        tty: &'a File,
        before: Termios,
    }

    impl<'a> Hidden<'a> {
        fn new(tty: &'a File) -> io::Result<Self> {
            let before = tcgetattr(tty)?;
            let mut hidden = before.clone();
            // Without signals of its own: the keys that end a program are looked at here, so that the terminal is put right.
            hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
            hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
            hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(tty, OptionalActions::Flush, &hidden)?;
            Ok(Self { tty, before })
        }
    }

    impl Drop for Hidden<'_> {
        fn drop(&mut self) {
            // A terminal that went away needs no putting right.
            let _gone = tcsetattr(self.tty, OptionalActions::Flush, &self.before).is_err();
        }
    }

    /// `None` when the person gave up or typed nothing.
    pub(super) fn ask(prompt: &str) -> io::Result<Option<Secret>> {
        let mut tty = File::options().read(true).write(true).open("/dev/tty")?;
        let hidden = Hidden::new(&tty)?;
        (&tty).write_all(SafeText::new(prompt).as_str().as_bytes())?;
        #[expect(
            clippy::unbuffered_bytes,
            reason = "a person types them, and what follows the line is not ours to take"
        )]
        let mut keys = (&tty).bytes();
        let typed = line(&mut keys);
        drop(hidden);
        tty.write_all(b"\n")?;
        typed
    }

    /// One line of keys. Backspace and Ctrl-U work; Ctrl-C, Ctrl-\ and Ctrl-D at the beginning give up.
    pub(super) fn line(keys: &mut dyn Iterator<Item = io::Result<u8>>) -> io::Result<Option<Secret>> {
        let mut typed: Vec<u8> = Vec::new();
        for key in keys {
            match key? {
                b'\r' | b'\n' => {
                    let text = String::from_utf8(typed);
                    return Ok(text.ok().filter(|text| !text.is_empty()).map(Secret::new));
                }
                0x03 | 0x1c => return Ok(None),
                0x04 if typed.is_empty() => return Ok(None),
                0x7f | 0x08 => while typed.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {},
                0x15 => typed.clear(),
                key if typed.len() < 32 << 10 => typed.push(key),
                _ => {}
            }
        }
        Ok(None)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn typed(keys: &str) -> Option<String> {
            line(&mut keys.bytes().map(Ok)).unwrap().map(|secret| secret.expose().to_owned())
        }

        #[test]
        fn a_typed_line_can_be_corrected_and_given_up() {
            assert_eq!(typed("secret\r").as_deref(), Some("secret"));
            assert_eq!(typed("sx\u{7f}ecré\u{8}et\nmore").as_deref(), Some("secret"));
            assert_eq!(typed("wrong\u{15}right\n").as_deref(), Some("right"));
            for nothing in ["\n", "sec\u{3}ret\n", "\u{4}", "unfinished", "\u{7f}\n", "a\u{1c}"] {
                assert_eq!(typed(nothing), None, "{nothing:?}");
            }
        }
    }
}
