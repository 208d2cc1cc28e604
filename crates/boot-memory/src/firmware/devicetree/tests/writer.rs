//! Writes devicetree blobs for tests, here and of the `mmkit` command.

extern crate std;
use std::vec::Vec;

/// Writes blobs, as dtc does.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) structure: Vec<u8>,
    pub(super) strings: Vec<u8>,
    pub(super) reservations: Vec<u64>,
}

impl Writer {
    fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    fn pad(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    pub(super) fn node(&mut self, name: &str, body: impl FnOnce(&mut Self)) {
        self.word(1);
        self.structure.extend(name.bytes().chain([0]));
        self.pad();
        body(self);
        self.word(2);
    }

    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) {
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        self.word(4);
        self.word(3);
        self.word(value.len() as u32);
        self.word(at);
        self.structure.extend(value);
        self.pad();
    }

    pub(super) fn cells(&mut self, name: &str, cells: &[u32]) {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &value);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.word(9);
        let reservations: Vec<u8> =
            self.reservations.iter().chain(&[0, 0]).flat_map(|word| word.to_be_bytes()).collect();
        let structure_at = 40 + reservations.len();
        let strings_at = structure_at + self.structure.len();
        let header = [
            0xd00d_feed,
            strings_at + self.strings.len(),
            structure_at,
            strings_at,
            40,
            17,
            16,
            0,
            self.strings.len(),
            self.structure.len(),
        ];
        let header: Vec<u8> = header.iter().flat_map(|&word| (word as u32).to_be_bytes()).collect();
        [header, reservations, self.structure, self.strings].concat()
    }
}
