//! What stands before the kernel's own words in a line of a log.
//!
//! Timestamps (`[   12.345678]`, `[Mon Mar 25 10:00:00 2019]`), caller tags (`[T1770]`), levels (`<4>`), syslog heads
//! (`Mar  8 01:02:03 host kernel: `) and quotation marks of mail (`> `), in any number.

/// Longest syslog head that is looked for, in bytes.
const SYSLOG_HEAD: usize = 100;

/// Longest content of a pair of brackets that counts as a timestamp or tag.
const TAG: usize = 40;

/// Splits a line into its prefix, blanks included, and the rest.
pub(super) fn split_prefix(line: &str) -> (&str, &str) {
    let mut rest = line;
    while let Some(shorter) = strip_one(rest) {
        rest = shorter;
    }
    line.split_at_checked(line.len() - rest.len()).unwrap_or(("", line))
}

fn strip_one(text: &str) -> Option<&str> {
    let trimmed = text.trim_start();
    if trimmed.len() < text.len() {
        return Some(trimmed);
    }
    if let Some(rest) = text.strip_prefix('>').or_else(|| text.strip_prefix("&gt;")) {
        return Some(rest);
    }
    if let Some((tag, rest)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return (tag.len() <= TAG && !tag.contains(['[', '<'])).then_some(rest);
    }
    if let Some((level, rest)) = text.strip_prefix('<').and_then(|inner| inner.split_once('>')) {
        return (!level.is_empty() && level.chars().all(|c| c.is_ascii_digit())).then_some(rest);
    }
    strip_syslog_head(text)
}

/// Strips `Mar  8 01:02:03 host kernel: `; the host may be missing.
fn strip_syslog_head(text: &str) -> Option<&str> {
    let (head, rest) = text.split_once("kernel:")?;
    let has_time = head.split_whitespace().any(|word| word.split(':').count() == 3);
    (head.len() <= SYSLOG_HEAD && has_time).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_prefix_is_taken_off() {
        for prefix in [
            "",
            "[    3.633718] ",
            "[ 7071.858937][T1770] ",
            "[Mon Mar 25 10:00:00 2019] ",
            "Mar  8 01:02:03 host kernel: ",
            "Nov 12 15:15:41 kernel: ",
            "Jul 28 05:06:23 datanode1 kernel: [  785.581198] ",
            ">>>>> [   30.369973] ",
            "> > \t",
            "<4>[309805.6] ",
        ] {
            let line = std::format!("{prefix}Mem-Info:");
            assert_eq!(split_prefix(&line), (prefix, "Mem-Info:"));
        }
    }

    #[test]
    fn words_of_the_kernel_stay() {
        assert_eq!(split_prefix("Node 0 DMA free:0kB kernel_stack:0kB"), ("", "Node 0 DMA free:0kB kernel_stack:0kB"));
        assert_eq!(split_prefix("[<ffffffff81685fac>] dump_stack"), ("", "[<ffffffff81685fac>] dump_stack"));
    }
}
