//! Splits a kernel command line into options.
//!
//! Linux 6.12: kernel/params.c (next_arg, parameq).

/// One option of a command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionToken<'a> {
    /// The option as written, with its quotes.
    pub text: &'a str,
    /// Its byte offset in the command line.
    pub offset: usize,
    /// What stands before the `=`.
    pub name: &'a str,
    /// What stands after the `=`, without quotes around it; `None` if there is no `=`.
    pub value: Option<&'a str>,
}

impl OptionToken<'_> {
    /// Returns true if the option's name is `name`; `-` and `_` are the same.
    pub fn is(&self, name: &str) -> bool {
        let fold = |byte: u8| if byte == b'-' { b'_' } else { byte };
        self.name.bytes().map(fold).eq(name.bytes().map(fold))
    }
}

/// Iterates over the options of a command line: words, where white space between double quotes does not end a word.
///
/// Stops at a word `--`.
pub fn option_tokens(command_line: &str) -> impl Iterator<Item = OptionToken<'_>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let rest = command_line.get(at..)?;
        let offset = at + rest.find(|c: char| !c.is_ascii_whitespace())?;
        let text = first_word(command_line.get(offset..)?);
        at = offset + text.len();
        (text != "--").then(|| split_word(text, offset))
    })
    .fuse()
}

fn first_word(text: &str) -> &str {
    let mut quoted = false;
    let end = text.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte.is_ascii_whitespace() && !quoted
    });
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

fn split_word(text: &str, offset: usize) -> OptionToken<'_> {
    let inner = text.strip_prefix('"').map_or(text, |inner| inner.strip_suffix('"').unwrap_or(inner));
    match inner.split_once('=') {
        Some((name, value)) => OptionToken { text, offset, name, value: Some(unquoted(value)) },
        None => OptionToken { text, offset, name: inner, value: None },
    }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').map_or(value, |inner| inner.strip_suffix('"').unwrap_or(inner))
}
