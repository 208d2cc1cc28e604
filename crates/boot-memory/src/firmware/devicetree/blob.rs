//! A flattened devicetree: its header, its nodes and their properties.
//!
//! The whole structure is walked once when a blob is opened, so later walks cannot meet a token that is out of place.
//! Devicetree specification 0.4, chapter 5.

use units::{PhysAddr, PhysRange};

use super::super::error::{FirmwareError, Input, Place, Problem};

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// A flattened devicetree whose structure has been checked.
///
/// # Invariants
/// `structure` is a sequence of whole tokens with balanced nodes, one root, and an end token.
#[derive(Clone, Copy, Debug)]
pub struct Devicetree<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    reservations: &'a [u8],
    /// Offsets of `structure` and `reservations` in the blob, for errors.
    structure_at: usize,
    reservations_at: usize,
}

/// A node of a devicetree.
#[derive(Clone, Copy, Debug)]
pub struct TreeNode<'a> {
    tree: Devicetree<'a>,
    /// Offset of the first token behind the node's name.
    body: usize,
    /// Name with its unit address, such as `memory@40000000`.
    pub name: &'a str,
}

/// A property of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeProperty<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its bytes.
    pub value: &'a [u8],
    /// Offset of the value in the blob, for errors.
    pub at: u64,
}

enum Token<'a> {
    Begin(&'a str),
    End,
    Property(TreeProperty<'a>),
    Nop,
    Finish,
}

pub(super) fn error(at: usize, problem: Problem) -> FirmwareError {
    FirmwareError { input: Input::Devicetree, at: Place::Byte(at as u64), problem }
}

impl<'a> Devicetree<'a> {
    /// Returns true if `bytes` start as a blob does, so that the whole is meant to be one.
    pub fn is_blob(bytes: &[u8]) -> bool {
        be_u32(bytes, 0) == Some(MAGIC)
    }

    /// Opens a blob and checks its structure.
    ///
    /// # Errors
    /// Another magic number or version, blocks outside the blob, tokens out of place, names that are not terminated.
    pub fn parse(blob: &'a [u8]) -> Result<Self, FirmwareError> {
        let field = |index: usize| {
            be_u32(blob, index * 4).ok_or(error(blob.len(), Problem::Truncated("the header of 40 bytes")))
        };
        if field(0)? != MAGIC {
            return Err(error(0, Problem::Expected("the magic number 0xd00dfeed")));
        }
        if field(6)? > 17 || field(5)? < 17 {
            return Err(error(20, Problem::Expected("a version that can be read as version 17")));
        }
        let blob = blob.get(..field(1)? as usize).ok_or(error(4, Problem::Truncated("its total size")))?;
        let block = |at: u32, len: u32| blob.get(at as usize..)?.get(..len as usize);
        let structure =
            block(field(2)?, field(9)?).ok_or(error(8, Problem::Truncated("the end of the structure block")))?;
        let strings =
            block(field(3)?, field(8)?).ok_or(error(12, Problem::Truncated("the end of the strings block")))?;
        let reservations_at = field(4)? as usize;
        let reservations =
            blob.get(reservations_at..).ok_or(error(16, Problem::Truncated("the memory reservation block")))?;
        let tree = Self { structure, strings, reservations, structure_at: field(2)? as usize, reservations_at };
        tree.check_structure()?;
        Ok(tree)
    }

    /// Returns the root node.
    pub fn root(&self) -> Option<TreeNode<'a>> {
        TreeNode { tree: *self, body: 0, name: "" }.children().next()
    }

    /// Calls `visit` for every range of the memory reservation block (`/memreserve/`).
    ///
    /// # Errors
    /// A block that is not terminated, a range that ends above 2^64.
    pub fn reservations(&self, mut visit: impl FnMut(PhysRange)) -> Result<(), FirmwareError> {
        for index in 0.. {
            let at = index * 16;
            let field = |at| {
                self.reservations.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_be_bytes(*bytes))
            };
            let (Some(start), Some(len)) = (field(at), field(at + 8)) else {
                return Err(error(self.reservations_at + at, Problem::Truncated("the end of the memory reservations")));
            };
            if start == 0 && len == 0 {
                break;
            }
            let end = start
                .checked_add(len)
                .ok_or(error(self.reservations_at + at, Problem::Expected("a range that ends below 2^64")))?;
            visit(PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)));
        }
        Ok(())
    }

    fn check_structure(&self) -> Result<(), FirmwareError> {
        let (mut at, mut depth, mut roots) = (0usize, 0u32, 0u32);
        loop {
            let misplaced = |expected| Err(error(self.structure_at + at, Problem::Expected(expected)));
            let (token, next) = self.token(at)?;
            match token {
                Token::Begin(_) if depth == 0 && roots > 0 => return misplaced("one root node"),
                Token::Begin(_) => {
                    roots += u32::from(depth == 0);
                    depth += 1;
                }
                Token::End if depth > 0 => depth -= 1,
                Token::Property(_) if depth > 0 => {}
                Token::Nop => {}
                Token::Finish if depth == 0 && roots == 1 => return Ok(()),
                _ => return misplaced("nodes that open before they close, and properties inside nodes"),
            }
            at = next;
        }
    }

    /// Reads the token at `at`; returns it with the offset of the next.
    fn token(&self, at: usize) -> Result<(Token<'a>, usize), FirmwareError> {
        let fail = |problem| error(self.structure_at + at, problem);
        let kind = be_u32(self.structure, at).ok_or(fail(Problem::Truncated("its end token")))?;
        let body = at + 4;
        match kind {
            BEGIN_NODE => {
                let name = terminated(self.structure, body)
                    .ok_or(fail(Problem::Expected("a node name in UTF-8 that ends in NUL")))?;
                Ok((Token::Begin(name), aligned(body + name.len() + 1)))
            }
            END_NODE => Ok((Token::End, body)),
            PROPERTY => {
                let truncated = fail(Problem::Truncated("the end of a property"));
                let len = be_u32(self.structure, body).ok_or(truncated)? as usize;
                let name_at = be_u32(self.structure, body + 4).ok_or(truncated)? as usize;
                let value = self.structure.get(body + 8..).and_then(|rest| rest.get(..len)).ok_or(truncated)?;
                let name = terminated(self.strings, name_at)
                    .ok_or(fail(Problem::Expected("a property name in the strings block")))?;
                let property = TreeProperty { name, value, at: (self.structure_at + body + 8) as u64 };
                Ok((Token::Property(property), aligned(body + 8 + len)))
            }
            NOP => Ok((Token::Nop, body)),
            END => Ok((Token::Finish, body)),
            _ => Err(fail(Problem::Expected("a token 1, 2, 3, 4 or 9"))),
        }
    }
}

impl<'a> TreeNode<'a> {
    /// Iterates over the node's properties.
    pub fn properties(&self) -> impl Iterator<Item = TreeProperty<'a>> + use<'a> {
        let (tree, mut at) = (self.tree, self.body);
        core::iter::from_fn(move || {
            loop {
                let (token, next) = tree.token(at).ok()?;
                at = next;
                match token {
                    Token::Property(property) => return Some(property),
                    Token::Nop => {}
                    _ => return None,
                }
            }
        })
        .fuse()
    }

    /// Returns the property called `name`.
    pub fn property(&self, name: &str) -> Option<TreeProperty<'a>> {
        self.properties().find(|property| property.name == name)
    }

    /// Iterates over the nodes directly below this one.
    pub fn children(&self) -> impl Iterator<Item = TreeNode<'a>> + use<'a> {
        let (tree, mut at, mut depth) = (self.tree, self.body, 0u32);
        core::iter::from_fn(move || {
            loop {
                let (token, next) = tree.token(at).ok()?;
                at = next;
                match token {
                    Token::Begin(name) => {
                        depth += 1;
                        if depth == 1 {
                            return Some(TreeNode { tree, body: at, name });
                        }
                    }
                    Token::End => depth = depth.checked_sub(1)?,
                    Token::Property(_) | Token::Nop => {}
                    Token::Finish => return None,
                }
            }
        })
        .fuse()
    }

    /// Returns the node directly below this one that is called `name`, without regard to its unit address.
    pub fn child(&self, name: &str) -> Option<TreeNode<'a>> {
        self.children().find(|child| child.name.split('@').next() == Some(name))
    }

    /// Returns the offset of the node's body in the blob, for errors.
    pub(super) fn place(&self) -> usize {
        self.tree.structure_at + self.body
    }
}

impl<'a> TreeProperty<'a> {
    /// Returns the value as a number of one cell.
    ///
    /// # Errors
    /// A value of another length than 4 bytes.
    pub fn cell(&self) -> Result<u32, FirmwareError> {
        let expected = error(self.at as usize, Problem::Expected("a value of one cell (4 bytes)"));
        if self.value.len() == 4 { be_u32(self.value, 0).ok_or(expected) } else { Err(expected) }
    }

    /// Returns true if one of the NUL-terminated strings of the value is `text`.
    pub fn has_string(&self, text: &str) -> bool {
        self.value.split(|&byte| byte == 0).any(|string| string == text.as_bytes())
    }

    /// Returns the first string of the value.
    pub fn string(&self) -> Option<&'a str> {
        core::str::from_utf8(self.value.split(|&byte| byte == 0).next()?).ok()
    }
}

fn aligned(offset: usize) -> usize {
    offset.next_multiple_of(4)
}

pub(super) fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_be_bytes(*field))
}

fn terminated(bytes: &[u8], at: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(rest.get(..end)?).ok()
}
