//! Ways to damage an input. Called by `worker`.

use fastrand::Rng;

use crate::corpus::INPUT_LIMIT;

/// Numbers that break parsers: limits of types and of page tables, and their neighbours.
const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "7f",
    "255",
    "256",
    "1024",
    "65536",
    "4294967295",
    "4294967296",
    "1099511627776",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "ffffffffffffffff",
    "99999999999999999999999999",
];
/// At most so many changes to one input.
const MOST_CHANGES: usize = 6;

/// Makes damaged inputs from good ones.
pub(crate) struct Mutator {
    random: Rng,
    tokens: &'static [&'static str],
}

impl Mutator {
    /// Makes a mutator; `tokens` are words of the format.
    pub(crate) fn new(seed: u64, tokens: &'static [&'static str]) -> Self {
        Self { random: Rng::with_seed(seed), tokens }
    }

    /// Takes an input of `pool` and changes it in a few places.
    pub(crate) fn damage(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.choose(pool).cloned().unwrap_or_default();
        for _ in 0..self.random.usize(1..=MOST_CHANGES) {
            self.change(&mut input, pool);
        }
        input.truncate(INPUT_LIMIT);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        match self.random.u8(0..10) {
            0 => self.flip_bit(input),
            1 => self.set_byte(input),
            2 => input.truncate(self.place(input)),
            3 => self.splice(input, pool),
            4 | 5 => self.edit_number(input),
            6 => self.duplicate_line(input),
            7 => self.remove_line(input),
            8 => self.insert_token(input),
            _ => self.remove_range(input),
        }
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.random.usize(..from.len())) }
    }

    /// An index into `input`, or its length.
    fn place(&mut self, input: &[u8]) -> usize {
        self.random.usize(..=input.len())
    }

    fn flip_bit(&mut self, input: &mut [u8]) {
        let (place, bit) = (self.place(input), self.random.u8(0..8));
        if let Some(byte) = input.get_mut(place) {
            *byte ^= 1 << bit;
        }
    }

    fn set_byte(&mut self, input: &mut [u8]) {
        let place = self.place(input);
        let value = *self.choose(&[0, 0xff, 0x7f, 0x80, b' ', b'\n', b'-', b':', b'=', b'@']).unwrap_or(&0);
        if let Some(byte) = input.get_mut(place) {
            *byte = value;
        }
    }

    /// Continues `input` with the tail of another one.
    fn splice(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let Some(other) = self.choose(pool) else { return };
        let (here, there) = (self.place(input), self.place(other));
        input.truncate(here);
        input.extend_from_slice(&other[there..]);
    }

    /// Replaces one run of digits; where there is none, one to eight bytes by a little-endian extreme.
    fn edit_number(&mut self, input: &mut Vec<u8>) {
        let start = self.place(input);
        let is_digit = |byte: &u8| byte.is_ascii_hexdigit();
        let Some(first) = input[start..].iter().position(is_digit).map(|offset| start + offset) else {
            return self.edit_word(input);
        };
        let length = input[first..].iter().take_while(|byte| is_digit(byte)).count();
        let number = self.choose(&NUMBERS).map_or("", |number| number);
        input.splice(first..first + length, number.bytes());
    }

    fn edit_word(&mut self, input: &mut [u8]) {
        let value = *self.choose(&[0, 1, u64::MAX, 1 << 31, 1 << 32, 1 << 63, u64::MAX << 12]).unwrap_or(&0);
        let (start, width) = (self.place(input), self.random.usize(1..=8));
        for (byte, new) in input.iter_mut().skip(start).take(width).zip(value.to_le_bytes()) {
            *byte = new;
        }
    }

    /// The range of a line around a random place, with its newline.
    fn line(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let place = self.place(input);
        let start = input[..place].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let end =
            input[place..].iter().position(|&byte| byte == b'\n').map_or(input.len(), |offset| place + offset + 1);
        start..end
    }

    fn duplicate_line(&mut self, input: &mut Vec<u8>) {
        let line = self.line(input);
        let copy = input[line.clone()].to_vec();
        let at = self.line(input).start;
        input.splice(at..at, copy);
    }

    fn remove_line(&mut self, input: &mut Vec<u8>) {
        let line = self.line(input);
        input.drain(line);
    }

    fn insert_token(&mut self, input: &mut Vec<u8>) {
        let token = self.choose(self.tokens).map_or("", |token| token);
        let (place, overwrite) = (self.place(input), self.random.bool());
        let end = if overwrite { (place + token.len()).min(input.len()) } else { place };
        input.splice(place..end, token.bytes());
    }

    fn remove_range(&mut self, input: &mut Vec<u8>) {
        let start = self.place(input);
        let length = self.random.usize(0..=32).min(input.len() - start);
        input.drain(start..start + length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_changes_most_inputs_and_keeps_the_limit() {
        let pool = vec![b"Node 0, zone DMA 1 2 3\n".to_vec(), vec![b'x'; INPUT_LIMIT]];
        let mut mutator = Mutator::new(1, &["Node"]);
        let inputs: Vec<_> = (0..1000).map(|_| mutator.damage(&pool)).collect();
        assert!(inputs.iter().all(|input| input.len() <= INPUT_LIMIT));
        assert!(inputs.iter().filter(|input| !pool.contains(input)).count() > 900);
    }

    #[test]
    fn an_empty_pool_gives_inputs_all_the_same() {
        let mut mutator = Mutator::new(1, &["word"]);
        assert!((0..100).any(|_| !mutator.damage(&[]).is_empty()));
    }

    #[test]
    fn a_line_is_doubled_or_removed_as_a_whole() {
        let mut mutator = Mutator::new(5, &[]);
        let (mut doubled, mut removed) = (b"a\nb\n".to_vec(), b"a\nb\n".to_vec());
        mutator.duplicate_line(&mut doubled);
        mutator.remove_line(&mut removed);
        assert_eq!(doubled.iter().filter(|&&byte| byte == b'\n').count(), 3, "{doubled:?}");
        assert!(removed.len() == 2 || removed == b"a\nb\n", "{removed:?}");
    }

    #[test]
    fn a_number_is_replaced_as_a_whole() {
        let mut mutator = Mutator::new(9, &[]);
        let mut input = b"x 1234 y".to_vec();
        while input == b"x 1234 y" {
            mutator.edit_number(&mut input);
        }
        let text = String::from_utf8(input).unwrap();
        assert!(text.starts_with("x ") && text.ends_with(" y"), "{text}");
    }
}
