//! What a file is called in /proc/PID/maps.

use address_space::MmError;

/// Bytes of the longest name (NAME_MAX).
const ROOM: usize = 255;

/// A name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileName {
    bytes: [u8; ROOM],
    len: u8,
}

impl FileName {
    /// Joins the parts of a name.
    ///
    /// # Errors
    /// [`MmError::Invalid`] above 255 bytes.
    pub fn new(parts: &[&[u8]]) -> Result<Self, MmError> {
        let mut name = Self { bytes: [0; ROOM], len: 0 };
        for part in parts {
            let start = usize::from(name.len);
            let room = name.bytes.get_mut(start..start + part.len()).ok_or(MmError::Invalid)?;
            room.copy_from_slice(part);
            name.len += part.len() as u8;
        }
        Ok(name)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}
