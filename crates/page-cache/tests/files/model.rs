//! Random operations on files against byte vectors and sorted maps.

use std::collections::{BTreeMap, BTreeSet};

use address_space::{Access, FileId, MmError, Reserve};
use mmkit_page_cache::{BytesSource, FileKind};
use object_allocator::vmstat::NodeItem;
use proptest::prelude::*;

use crate::{Call, Objects, PAGE, counter, with_files};

static IMAGE: [u8; 10_000] = [0x5a; 10_000];
static SOURCE: BytesSource<'static> = BytesSource(&IMAGE);

#[derive(Clone, Debug)]
enum Op {
    Create(usize, u64),
    Get(usize),
    Put(usize),
    Touch(usize, u64, Access),
    Write(usize, u64, usize, u8),
    Read(usize, u64, usize),
    SetSize(usize, u64),
    Punch(usize, u64, u64),
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![0..70_000u64, (0..17u64).prop_map(|index| index * PAGE), 400_000..500_000u64]
}

fn ops() -> impl Strategy<Value = Op> {
    let file = || 0..3usize;
    let len = || prop_oneof![0..50usize, 0..20_000usize];
    let access = prop_oneof![Just(Access::Read), Just(Access::Write)];
    prop_oneof![
        5 => (0..4usize, offset()).prop_map(|(kind, size)| Op::Create(kind, size)),
        1 => file().prop_map(Op::Get),
        2 => file().prop_map(Op::Put),
        6 => (file(), 0..130u64, access).prop_map(|(file, index, access)| Op::Touch(file, index, access)),
        5 => (file(), offset(), len(), 1..=255u8).prop_map(|(file, at, len, byte)| Op::Write(file, at, len, byte)),
        5 => (file(), offset(), len()).prop_map(|(file, at, len)| Op::Read(file, at, len)),
        4 => (file(), offset()).prop_map(|(file, size)| Op::SetSize(file, size)),
        5 => (file(), 0..70_000u64, 0..20_000u64).prop_map(|(file, at, len)| Op::Punch(file, at, len)),
    ]
}

/// What a file must look like.
struct Model {
    file: FileId,
    kind: usize,
    references: u32,
    bytes: Vec<u8>,
    pages: BTreeSet<u64>,
}

fn kind(kind: usize) -> FileKind<'static> {
    match kind {
        0 => FileKind::Regular,
        1 => FileKind::Shmem(Reserve::OnUse),
        2 => FileKind::Shmem(Reserve::Whole),
        _ => FileKind::Backed(&SOURCE),
    }
}

impl Model {
    fn new(file: FileId, kind: usize, size: u64) -> Self {
        let mut bytes = vec![0; size as usize];
        if kind == 3 {
            bytes.iter_mut().zip(IMAGE).for_each(|(to, from)| *to = from);
        }
        Self { file, kind, references: 1, bytes, pages: BTreeSet::new() }
    }

    fn is_shmem(&self) -> bool {
        self.kind == 1 || self.kind == 2
    }

    fn promised(&self) -> u64 {
        match self.kind {
            1 => self.pages.len() as u64,
            2 => (self.bytes.len() as u64).div_ceil(PAGE),
            _ => 0,
        }
    }

    fn pages_of(at: u64, len: usize) -> impl Iterator<Item = u64> {
        at / PAGE..(at + len as u64).div_ceil(PAGE)
    }

    fn write(&mut self, at: u64, len: usize, byte: u8) {
        if len == 0 {
            return;
        }
        let end = at as usize + len;
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[at as usize..end].fill(byte);
        self.pages.extend(Self::pages_of(at, len));
    }

    fn read(&mut self, at: u64, len: usize) -> &[u8] {
        let start = self.bytes.len().min(at as usize);
        let end = self.bytes.len().min(start + len);
        if self.kind == 3 && start < end {
            self.pages.extend(Self::pages_of(start as u64, end - start));
        }
        &self.bytes[start..end]
    }

    fn set_size(&mut self, size: u64) {
        self.bytes.resize(size as usize, 0);
        self.pages.retain(|&index| index < size.div_ceil(PAGE));
    }

    fn punch(&mut self, at: u64, len: u64) {
        let end = self.bytes.len().min((at + len) as usize);
        if (at as usize) < end {
            self.bytes[at as usize..end].fill(0);
        }
        self.pages.retain(|&index| index * PAGE < at || (index + 1) * PAGE > at + len);
    }
}

fn apply(call: &Call<'_, '_>, models: &mut BTreeMap<usize, Model>, op: &Op) {
    match *op {
        Op::Create(number, size) => {
            let Some(slot) = (0..3).find(|slot| !models.contains_key(slot)) else { return };
            models.insert(slot, Model::new(call.create(kind(number), size).unwrap(), number, size));
        }
        Op::Put(slot) => {
            let Some(model) = models.get_mut(&slot) else { return };
            call.put(model.file).unwrap();
            model.references -= 1;
            if model.references == 0 {
                assert_eq!(call.stat(model.file), Err(MmError::BadFile));
                models.remove(&slot);
            }
        }
        Op::Get(slot)
        | Op::Touch(slot, ..)
        | Op::Write(slot, ..)
        | Op::Read(slot, ..)
        | Op::SetSize(slot, _)
        | Op::Punch(slot, ..) => {
            if let Some(model) = models.get_mut(&slot) {
                apply_to(call, model, op);
            }
        }
    }
}

fn apply_to(call: &Call<'_, '_>, model: &mut Model, op: &Op) {
    let file = model.file;
    match *op {
        Op::Get(_) => {
            call.get(file).unwrap();
            model.references += 1;
        }
        Op::Touch(_, index, access) => touch(call, model, index, access),
        Op::Write(_, at, len, byte) => {
            assert_eq!(call.write(file, at, &vec![byte; len]), Ok(len));
            model.write(at, len, byte);
        }
        Op::Read(_, at, len) => {
            let mut bytes = vec![0xee; len];
            let read = call.read(file, at, &mut bytes).unwrap();
            assert!(bytes[..read] == *model.read(at, len), "{len} bytes from {at}");
        }
        Op::SetSize(_, size) => {
            call.set_size(file, size).unwrap();
            model.set_size(size);
        }
        Op::Punch(_, at, len) => {
            let expected = match (model.is_shmem(), len) {
                (false, _) => Err(MmError::NotSupported),
                (true, 0) => Err(MmError::Invalid),
                (true, _) => Ok(()),
            };
            assert_eq!(call.punch_hole(file, at, len), expected);
            if expected.is_ok() {
                model.punch(at, len);
            }
        }
        Op::Create(..) | Op::Put(_) => {}
    }
}

fn touch(call: &Call<'_, '_>, model: &mut Model, index: u64, access: Access) {
    let is_inside = index < (model.bytes.len() as u64).div_ceil(PAGE);
    match call.page(model.file, index, access) {
        Ok(page) => {
            assert!(is_inside);
            assert_eq!(call.files.file_of(page.pfn()), Some((model.file, index)));
            model.pages.insert(index);
            call.put_page(page);
        }
        Err(error) => assert_eq!((error, is_inside), (MmError::BadAddress, false)),
    }
}

fn compare(call: &Call<'_, '_>, objects: &Objects, models: &BTreeMap<usize, Model>) {
    for model in models.values() {
        call.check_invariants(model.file).unwrap();
        let stat = call.stat(model.file).unwrap();
        assert_eq!((stat.size, stat.references), (model.bytes.len() as u64, model.references));
        let mut resident = vec![0; 130];
        call.residency(model.file, 0, &mut resident).unwrap();
        let found: BTreeSet<u64> = (0..).zip(&resident).filter(|(_, is)| **is == 1).map(|(index, _)| index).collect();
        assert_eq!(found, model.pages);
        assert_eq!(stat.nr_pages, model.pages.len() as u64);
    }
    let sum = |f: &dyn Fn(&Model) -> u64| models.values().map(f).sum::<u64>();
    assert_eq!(call.commit.committed(), sum(&Model::promised));
    assert_eq!(counter(objects, NodeItem::NrFilePages), sum(&|model| model.pages.len() as u64));
    let shmem = sum(&|model| if model.is_shmem() { model.pages.len() as u64 } else { 0 });
    assert_eq!(counter(objects, NodeItem::NrShmem), shmem);
}

/// Compares every byte, which makes pages where a file has a source.
fn check_contents(call: &Call<'_, '_>, model: &Model) {
    let mut bytes = vec![0xee; model.bytes.len() + 1];
    assert_eq!(call.read(model.file, 0, &mut bytes), Ok(model.bytes.len()));
    let different = bytes.iter().zip(&model.bytes).position(|(ours, theirs)| ours != theirs);
    assert_eq!(different, None, "of {} bytes", model.bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn files_hold_what_vectors_would(ops in proptest::collection::vec(ops(), 1..80)) {
        with_files(1 << 20, |call, objects| {
            let mut models = BTreeMap::new();
            for op in &ops {
                apply(call, &mut models, op);
                compare(call, objects, &models);
            }
            for model in models.values() {
                check_contents(call, model);
                for _ in 0..model.references {
                    call.put(model.file).unwrap();
                }
            }
        });
    }
}
