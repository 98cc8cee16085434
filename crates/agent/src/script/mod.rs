//! The file that a shell runs: the user's text, set up so that each command is echoed with its line.

mod number;

use std::borrow::Cow;

use crate::protocol::Shell;

/// A pipeline file of 512 KiB cannot have more lines.
const MAX_LINE: u32 = 600_000;

/// The text of a step, with every line at its number in the pipeline file.
///
/// So the shell's own messages name the right line too. All of the set-up stands in the first line.
pub(crate) fn file_text(shell: Shell, text: &str, line: u32) -> String {
    let line = line.clamp(1, MAX_LINE);
    let (setup, text) = match shell {
        // Debian's dash has no LINENO, hence the second way.
        Shell::Sh => {
            let setup = format!("PS4='+ ${{LINENO:-$__pk_line}}: ' __pk= __pk_line={line};set -x");
            (
                setup,
                number::number(text, line).map_or(Cow::Borrowed(text), Cow::Owned),
            )
        }
        // With a descriptor of its own the echo never ends up in `$(f 2>&1)`; sh knows no such thing.
        Shell::Bash => (
            "PS4='+ ${LINENO}: ';exec 19>&2;BASH_XTRACEFD=19;set -x".to_owned(),
            Cow::Borrowed(text),
        ),
    };
    let gap = if line == 1 {
        ";".to_owned()
    } else {
        "\n".repeat(usize::try_from(line - 1).unwrap_or_default())
    };
    format!("{setup}{gap}{text}\n")
}

/// The arguments before the file's name.
pub(crate) fn options(shell: Shell) -> (&'static str, &'static [&'static str]) {
    match shell {
        Shell::Sh => ("sh", &["-eu"]),
        Shell::Bash => ("bash", &["-eu", "-o", "pipefail"]),
    }
}
