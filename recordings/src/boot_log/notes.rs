//! Lines about zones and nodes that the kernel wrote while it laid them out, kept as text.

use std::ops::Range;

/// What a kept line is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteKind {
    /// `Zone ranges:` and the lines below it.
    ZoneRanges,
    /// `Movable zone start for each node` and the lines below it.
    MovableStart,
    /// `Early memory node ranges` and the lines below it.
    EarlyNodeRanges,
    /// `Initmem setup node N ...`.
    InitmemSetup,
    /// `Initializing node N as memoryless` (up to 6.11).
    MemorylessNode,
    /// `On node N, zone Z: P pages in unavailable ranges`.
    UnavailableRanges,
    /// `Fallback order for Node N: ...`.
    FallbackOrder,
    /// `Built N zonelists, mobility grouping ...`.
    Zonelists,
    /// `Policy zone: Z`.
    PolicyZone,
    /// `Memory: FREEK/TOTALK available (...)`.
    Memory,
}

/// One kept line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Line number in the log, from 1.
    pub line: usize,
    /// What it is about.
    pub kind: NoteKind,
    /// The line without its time stamp.
    pub text: String,
}

/// Picks the lines about zones and nodes out of a log's messages.
pub(super) fn collect(messages: &[String]) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut block = None;
    for (index, message) in messages.iter().enumerate() {
        let kind = match (header(message), block) {
            (Some(kind), _) => {
                block = Some(kind);
                kind
            }
            (None, Some(kind)) if message.starts_with("  ") => kind,
            _ => {
                block = None;
                match single(message) {
                    Some(kind) => kind,
                    None => continue,
                }
            }
        };
        notes.push(Note { line: index + 1, kind, text: message.clone() });
    }
    notes
}

fn header(message: &str) -> Option<NoteKind> {
    match message {
        "Zone ranges:" => Some(NoteKind::ZoneRanges),
        "Movable zone start for each node" => Some(NoteKind::MovableStart),
        "Early memory node ranges" => Some(NoteKind::EarlyNodeRanges),
        _ => None,
    }
}

fn single(message: &str) -> Option<NoteKind> {
    let starts = [
        ("Initmem setup node ", NoteKind::InitmemSetup),
        ("Initializing node ", NoteKind::MemorylessNode),
        ("Fallback order for Node ", NoteKind::FallbackOrder),
        ("Policy zone: ", NoteKind::PolicyZone),
        ("Memory: ", NoteKind::Memory),
    ];
    if message.starts_with("On node ") && message.ends_with(" pages in unavailable ranges") {
        return Some(NoteKind::UnavailableRanges);
    }
    if message.starts_with("Built ") && message.contains(" zonelists") {
        return Some(NoteKind::Zonelists);
    }
    starts.into_iter().find(|(start, _)| message.starts_with(start)).map(|(_, kind)| kind)
}

/// Returns the end of a log's boot-time part: the number of lines up to and with the `Memory:` line.
pub(super) fn until_memory_line(notes: &[Note], lines: usize) -> Range<usize> {
    0..notes.iter().find(|note| note.kind == NoteKind::Memory).map_or(lines, |note| note.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_at_the_first_line_that_is_not_indented() {
        let log = ["Zone ranges:", "  DMA      empty", "x", "  y", "Policy zone: Normal"].map(str::to_owned);
        let kept: Vec<_> = collect(&log).into_iter().map(|note| (note.line, note.kind)).collect();
        assert_eq!(kept, [(1, NoteKind::ZoneRanges), (2, NoteKind::ZoneRanges), (5, NoteKind::PolicyZone)]);
    }
}
