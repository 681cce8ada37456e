//! Secrets from people: typed without being shown, or read from the standard input.

use std::io::{self, Read as _};

use greentic_dist_types::Secret;

use super::CliError;
#[cfg(unix)]
use super::signals::{self, Key};

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
///
/// Ctrl-C and Ctrl-\ end the process, in one that belongs to a host the command; Ctrl-Z stops the process until it goes on.
#[cfg(unix)]
pub(crate) fn from_terminal(prompt: &str) -> Result<Secret, CliError> {
    let failed = |error: io::Error| {
        let mut failure = CliError::internal(&format!("the secret could not be asked for: {error}"));
        failure.hints.push("without a terminal, hand it over on the standard input (`--token-stdin`)".to_owned());
        failure
    };
    match terminal::ask(prompt).map_err(failed)? {
        Typed::Secret(secret) => Ok(secret),
        Typed::Nothing => Err(CliError::internal("nothing was typed")),
        Typed::NoText => Err(CliError::invalid("what was typed is no UTF-8 text")),
        Typed::Ended(key) => {
            signals::press(key);
            Err(CliError::internal("the question for a secret was interrupted"))
        }
    }
}

/// Where a terminal cannot be kept from showing what is typed.
#[cfg(not(unix))]
pub(crate) fn from_terminal(_prompt: &str) -> Result<Secret, CliError> {
    let mut failure = CliError::internal("the secret cannot be asked for on this system");
    failure.hints.push("hand it over on the standard input (`--token-stdin`)".to_owned());
    Err(failure)
}

/// What a person typed.
#[cfg(unix)]
enum Typed {
    Secret(Secret),
    /// An empty line, or the end of the input.
    Nothing,
    /// Bytes that are no UTF-8.
    NoText,
    /// A key that ends programs.
    Ended(Key),
}

#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::io::{self, Read as _, Write as _};
    use std::time::Duration;

    use greentic_dist_types::{SafeText, Secret};
    use rustix::process::getpgrp;
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};

    use super::Typed;
    use crate::dist_cli::signals::{self, Key};
    use crate::interruption::{LastAct, with_last_act};

    /// How often a process in the background looks whether it has the terminal back.
    const LOOK: Duration = Duration::from_millis(50);

    /// A terminal that shows nothing and hands over every key, until it is dropped or the process is interrupted.
    struct Hidden<'a> {
        tty: &'a File,
        before: Termios,
        during: Termios,
        _last_act: LastAct,
    }

    impl<'a> Hidden<'a> {
        fn new(tty: &'a File) -> io::Result<Self> {
            let before = tcgetattr(tty)?;
            let mut hidden = before.clone();
            // Without signals of its own: the keys that end a program are looked at here, so that the terminal is put right.
            hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
            hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
            hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
            let (again, shown) = (tty.try_clone()?, before.clone());
            // In the background this stops the process until it has the terminal. From here on nobody may be kept waiting for that.
            tcsetattr(tty, OptionalActions::Now, &before)?;
            let ((), last_act) = with_last_act(|| {
                tcsetattr(tty, OptionalActions::Flush, &hidden)?;
                Ok(((), Box::new(move || give_back(&again, &shown)) as _))
            })?;
            Ok(Self { tty, before, during: hidden, _last_act: last_act })
        }

        /// Puts the terminal right while the process is stopped.
        fn suspend(&self) {
            set(self.tty, &self.before);
            signals::press(Key::Suspend);
            // Told to go on in the background: touching the terminal would stop the process again, before it can obey what else it
            // was told. There is no event for having the terminal back.
            while is_in_background(self.tty) {
                std::thread::sleep(LOOK);
            }
            set(self.tty, &self.during);
        }
    }

    impl Drop for Hidden<'_> {
        fn drop(&mut self) {
            give_back(self.tty, &self.before);
        }
    }

    /// Puts the terminal right, unless it is another one's by now: whoever took it has set it as they want it, and touching it would
    /// stop this process.
    fn give_back(tty: &File, modes: &Termios) {
        if !is_in_background(tty) {
            set(tty, modes);
        }
    }

    fn is_in_background(tty: &File) -> bool {
        tcgetpgrp(tty).is_ok_and(|foreground| foreground != getpgrp())
    }

    fn set(tty: &File, modes: &Termios) {
        // A terminal that went away needs no putting right.
        let _gone = tcsetattr(tty, OptionalActions::Flush, modes).is_err();
    }

    pub(super) fn ask(prompt: &str) -> io::Result<Typed> {
        let mut tty = File::options().read(true).write(true).open("/dev/tty")?;
        let hidden = Hidden::new(&tty)?;
        let prompt = SafeText::new(prompt);
        (&tty).write_all(prompt.as_str().as_bytes())?;
        #[expect(
            clippy::unbuffered_bytes,
            reason = "a person types them, and what follows the line is not ours to take"
        )]
        let mut keys = (&tty).bytes();
        let typed = line(&mut keys, || {
            hidden.suspend();
            // Where this cannot be written the next key cannot be read.
            drop((&tty).write_all(format!("\n{prompt}").as_bytes()));
        });
        drop(hidden);
        tty.write_all(b"\n")?;
        typed
    }

    /// One line of keys. Backspace and Ctrl-U work; Ctrl-D at the beginning gives up. Ctrl-Z is for `suspend`.
    pub(super) fn line(keys: &mut dyn Iterator<Item = io::Result<u8>>, mut suspend: impl FnMut()) -> io::Result<Typed> {
        let mut typed: Vec<u8> = Vec::new();
        for key in keys {
            match key? {
                b'\r' | b'\n' => {
                    return Ok(match String::from_utf8(typed).map(Secret::new) {
                        Ok(secret) if secret.is_empty() => Typed::Nothing,
                        Ok(secret) => Typed::Secret(secret),
                        Err(_holds_a_secret) => Typed::NoText,
                    });
                }
                0x03 => return Ok(Typed::Ended(Key::Interrupt)),
                0x1c => return Ok(Typed::Ended(Key::Quit)),
                0x1a => suspend(),
                0x04 if typed.is_empty() => return Ok(Typed::Nothing),
                0x7f | 0x08 => while typed.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {},
                0x15 => typed.clear(),
                key if typed.len() < 32 << 10 => typed.push(key),
                _ => {}
            }
        }
        Ok(Typed::Nothing)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// What came of the keys, and how often the process was to be stopped meanwhile.
        fn typed(keys: &[u8]) -> (Typed, usize) {
            let mut suspended = 0;
            let typed = line(&mut keys.iter().copied().map(Ok), || suspended += 1).unwrap();
            (typed, suspended)
        }

        #[track_caller]
        fn assert_secret(keys: &str, expected: &str, stops: usize) {
            match typed(keys.as_bytes()) {
                (Typed::Secret(secret), suspended) => {
                    assert_eq!((secret.expose(), suspended), (expected, stops), "{keys:?}");
                }
                _ => panic!("{keys:?}"),
            }
        }

        #[test]
        fn a_typed_line_can_be_corrected_and_given_up() {
            assert_secret("secret\r", "secret", 0);
            assert_secret("sx\u{7f}ecré\u{8}et\nmore", "secret", 0);
            assert_secret("wrong\u{15}right\n", "right", 0);
            for nothing in ["\n", "\u{4}", "unfinished", "\u{7f}\n"] {
                assert!(matches!(typed(nothing.as_bytes()), (Typed::Nothing, 0)), "{nothing:?}");
            }
        }

        #[test]
        fn keys_that_are_signals_are_no_part_of_what_is_typed() {
            assert!(matches!(typed(b"sec\x03ret\n"), (Typed::Ended(Key::Interrupt), 0)));
            assert!(matches!(typed(b"a\x1c"), (Typed::Ended(Key::Quit), 0)));
            assert_secret("sec\u{1a}ret\n", "secret", 1);
        }

        #[test]
        fn what_is_no_text_is_told_apart_from_nothing() {
            assert!(matches!(typed(b"a\xff\xfe\n"), (Typed::NoText, 0)));
        }
    }
}
