//! Entries of every format: known bits, and what is encoded comes back.

use proptest::prelude::*;

use units::{PhysAddr, VirtAddr, VirtRange};

use super::{Arm64, Attributes, Entry, Level, MemoryType, PageTableFormat, Prot, X86_64, X86Pae};

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let types = [MemoryType::Normal, MemoryType::WriteCombining, MemoryType::Device, MemoryType::StrictDevice];
    (0u8..128, prop::sample::select(types.to_vec()))
        .prop_map(|(bits, memory_type)| Attributes { prot: Prot::from_bits_truncate(bits), memory_type })
}

/// What of `prot` an entry of the format can say.
fn kept<F: PageTableFormat>(prot: Prot) -> Prot {
    if F::SOFT_DIRTY == 0 { prot - Prot::SOFT_DIRTY } else { prot }
}

fn leaves_come_back<F: PageTableFormat>(level: u8, raw: u64, attributes: Attributes) {
    let level = Level(level.min(F::LARGEST_LEAF.raw()));
    let phys = PhysAddr::new(raw & ((1 << F::PHYS_BITS) - 1)).align_down(F::leaf_bytes(level));
    let expected = Attributes { prot: kept::<F>(attributes.prot), ..attributes };
    assert_eq!(F::decode(level, F::encode_leaf(level, phys, attributes)), Entry::Leaf(phys, expected));
}

fn the_mark_is_one_bit<F: PageTableFormat>(level: u8, raw: u64, attributes: Attributes) {
    let level = Level(level.min(F::LARGEST_LEAF.raw()));
    let phys = PhysAddr::new(raw & ((1 << F::PHYS_BITS) - 1)).align_down(F::leaf_bytes(level));
    let entry = |prot| F::encode_leaf(level, phys, Attributes { prot, ..attributes });
    let (clean, marked) = (entry(attributes.prot - Prot::SOFT_DIRTY), entry(attributes.prot | Prot::SOFT_DIRTY));
    assert_eq!((clean & F::SOFT_DIRTY, clean | F::SOFT_DIRTY), (0, marked));
}

fn permissions_change_alone<F: PageTableFormat>(level: u8, raw: u64, attributes: Attributes, bits: u8) {
    let level = Level(level.min(F::LARGEST_LEAF.raw()));
    let phys = PhysAddr::new(raw & ((1 << F::PHYS_BITS) - 1)).align_down(F::leaf_bytes(level));
    let prot = Prot::from_bits_truncate(bits);
    let entry = F::encode_leaf(level, phys, attributes);
    assert_eq!(F::prot(level, entry), Some(kept::<F>(attributes.prot)));
    assert_eq!(F::with_prot(level, entry, prot), F::encode_leaf(level, phys, Attributes { prot, ..attributes }));
    let table = F::encode_table(Level::PMD, phys.align_down(1 << F::PAGE_SHIFT));
    assert_eq!((F::prot(Level::PMD, table), F::with_prot(Level::PMD, table, prot)), (None, table));
}

fn tables_come_back<F: PageTableFormat>(level: u8, raw: u64) {
    let level = Level(level.clamp(1, F::ROOT.raw()));
    let phys = PhysAddr::new(raw & ((1 << F::PHYS_BITS) - 1)).align_down(1 << F::PAGE_SHIFT);
    assert_eq!(F::decode(level, F::encode_table(level, phys)), Entry::Table(phys));
}

fn every_word_decodes_and_stays_what_it_is<F: PageTableFormat>(level: u8, word: u64) {
    let level = Level(level.min(F::ROOT.raw()));
    let again = match F::decode(level, word) {
        Entry::Empty => return,
        Entry::Table(phys) => F::encode_table(level, phys),
        Entry::Leaf(phys, attributes) => F::encode_leaf(level, phys, attributes),
    };
    assert_eq!(F::decode(level, again), F::decode(level, word));
}

fn addresses_split_and_join<F: PageTableFormat>(raw: u64) {
    let virt = F::kernel_address(raw & ((1 << F::VIRT_BITS) - 1));
    assert!(F::is_kernel_address(virt));
    let levels = (0..=F::ROOT.raw()).map(Level);
    let joined = levels
        .fold(raw & ((1 << F::PAGE_SHIFT) - 1), |sum, level| sum | (F::index(level, virt) as u64) << F::shift(level));
    assert_eq!(F::kernel_address(joined), virt);
}

macro_rules! for_every_format {
    ($check:ident($($argument:expr),*)) => {
        $check::<X86_64<4>>($($argument),*);
        $check::<X86_64<5>>($($argument),*);
        $check::<X86Pae>($($argument),*);
        $check::<Arm64<12, 39>>($($argument),*);
        $check::<Arm64<12, 48>>($($argument),*);
        $check::<Arm64<14, 47>>($($argument),*);
        $check::<Arm64<16, 42>>($($argument),*);
        $check::<Arm64<16, 52>>($($argument),*);
    };
}

#[test]
fn levels_and_leaf_sizes_are_those_of_the_manuals() {
    fn shape<F: PageTableFormat>() -> (u8, usize, u64, u64) {
        (F::ROOT.raw() + 1, F::entries(F::ROOT), F::leaf_bytes(Level::PMD), F::leaf_bytes(F::LARGEST_LEAF))
    }
    assert_eq!(shape::<X86_64<4>>(), (4, 512, 2 << 20, 1 << 30));
    assert_eq!(shape::<X86_64<5>>(), (5, 512, 2 << 20, 1 << 30));
    assert_eq!(shape::<Arm64<12, 39>>(), (3, 512, 2 << 20, 1 << 30));
    assert_eq!(shape::<Arm64<12, 48>>(), (4, 512, 2 << 20, 1 << 30));
    assert_eq!(shape::<Arm64<14, 47>>(), (3, 2048, 32 << 20, 32 << 20));
    assert_eq!(shape::<Arm64<14, 48>>(), (4, 2, 32 << 20, 32 << 20));
    assert_eq!(shape::<Arm64<16, 48>>(), (3, 64, 512 << 20, 512 << 20));
}

#[test]
fn known_entries_have_the_bits_of_the_manuals() {
    let page = PhysAddr::new(0x4020_0000);
    assert_eq!(X86_64::<4>::encode_leaf(Level::PTE, page, Attributes::KERNEL_DATA), 0x8000_0000_4020_0163);
    assert_eq!(X86_64::<4>::encode_leaf(Level::PMD, page, Attributes::KERNEL_CODE), 0x4020_01e1);
    assert_eq!(X86_64::<4>::encode_table(Level::PUD, page), 0x4020_0067);
    let written = Attributes { prot: Prot::WRITTEN, memory_type: MemoryType::Normal };
    assert_eq!(X86_64::<4>::encode_leaf(Level::PTE, page, written), 0x8000_0000_4020_0841);
    assert_eq!(X86Pae::encode_leaf(Level::PTE, page, written), 0x8000_0000_4020_0041);
    assert_eq!(Arm64::<12, 48>::encode_leaf(Level::PTE, page, Attributes::KERNEL_DATA), 0x00e0_0000_4020_0703);
    assert_eq!(Arm64::<12, 48>::encode_leaf(Level::PMD, page, Attributes::KERNEL_CODE), 0x00c0_0000_4020_0781);
    assert_eq!(Arm64::<16, 52>::encode_table(Level::PMD, PhysAddr::new(0xa_0000_4020_0000)), 0x4020_a003);
}

#[test]
fn a_user_page_is_no_code_of_the_kernel_and_the_other_way_round() {
    let user = Attributes { prot: Prot::USER | Prot::EXECUTE, memory_type: MemoryType::Normal };
    let entry = Arm64::<12, 48>::encode_leaf(Level::PTE, PhysAddr::ZERO, user);
    assert_eq!(entry >> 53 & 0b11, 0b01);
    let entry = Arm64::<12, 48>::encode_leaf(Level::PTE, PhysAddr::ZERO, Attributes::KERNEL_CODE);
    assert_eq!(entry >> 53 & 0b11, 0b10);
}

#[test]
fn the_direct_map_lies_where_linux_has_it() {
    assert_eq!(Arm64::<12, 48>::DIRECT_MAP_BASE.raw(), 0xffff_0000_0000_0000);
    assert_eq!(Arm64::<12, 39>::DIRECT_MAP_BASE.raw(), 0xffff_ff80_0000_0000);
    for_every_format!(direct_map_is_kernel_space());
}

fn direct_map_is_kernel_space<F: PageTableFormat>() {
    assert!(F::is_kernel_address(F::DIRECT_MAP_BASE));
    assert!(F::is_kernel_address(F::DIRECT_MAP_BASE.saturating_add(F::DIRECT_MAP_BYTES - 1)));
}

#[test]
fn the_vmalloc_area_lies_where_linux_has_it() {
    fn kib<F: PageTableFormat>() -> u64 {
        F::VMALLOC.len() >> 10
    }
    // VmallocTotal of recorded machines.
    assert_eq!((kib::<X86_64<4>>(), kib::<X86Pae>()), (34_359_738_367, 122_880));
    assert_eq!(kib::<X86_64<5>>(), (12_800 << 30) - 1);
    assert_eq!(Arm64::<12, 48>::VMALLOC.start.raw(), 0xffff_8000_8000_0000);
    assert_eq!(Arm64::<12, 48>::VMALLOC.end.raw(), 0xffff_fdff_bf80_0000);
    for_every_format!(vmalloc_area_is_kernel_space_apart_from_the_direct_map());
}

fn vmalloc_area_is_kernel_space_apart_from_the_direct_map<F: PageTableFormat>() {
    let (area, direct) = (F::VMALLOC, VirtRange::with_len(F::DIRECT_MAP_BASE, F::DIRECT_MAP_BYTES));
    assert!(F::is_kernel_address(area.start) && F::is_kernel_address(area.end), "{area:?}");
    assert!(!area.is_empty() && !area.overlaps(direct), "{area:?} {direct:?}");
    assert_eq!(area.start.raw() % (1 << F::PAGE_SHIFT), 0);
}

#[test]
fn a_root_entry_of_pae_sets_no_reserved_bit() {
    assert_eq!(X86Pae::ROOT, Level::PUD);
    assert_eq!(X86Pae::entries(X86Pae::ROOT), 4);
    assert_eq!(X86Pae::encode_table(Level::PUD, PhysAddr::new(0x4020_0000)), 0x4020_0001);
    assert_eq!(X86Pae::decode(Level::PUD, 0x4020_0081), Entry::Table(PhysAddr::new(0x4020_0000)));
}

#[test]
fn address_bits_that_do_not_fit_never_become_flags() {
    let odd = PhysAddr::new(0xfff0_0000_4020_1fff);
    let entry = X86_64::<4>::encode_leaf(Level::PMD, odd, Attributes::default());
    assert_eq!(X86_64::<4>::decode(Level::PMD, entry), Entry::Leaf(PhysAddr::new(0x4020_0000), Attributes::default()));
    let entry = Arm64::<12, 48>::encode_leaf(Level::PTE, odd, Attributes::default());
    assert_eq!(
        Arm64::<12, 48>::decode(Level::PTE, entry),
        Entry::Leaf(PhysAddr::new(0x4020_1000), Attributes::default())
    );
}

#[test]
fn a_large_bit_above_the_largest_leaf_is_no_leaf() {
    let entry = X86_64::<5>::encode_table(Level::PGD, PhysAddr::new(0x1000)) | 1 << 7;
    assert_eq!(X86_64::<5>::decode(Level::PGD, entry), Entry::Table(PhysAddr::new(0x1000)));
    assert_eq!(Arm64::<16, 48>::decode(Level::PUD, 0x4000_0000_0001), Entry::Empty);
}

#[test]
fn addresses_between_the_halves_are_no_kernel_addresses() {
    assert!(!X86_64::<4>::is_kernel_address(VirtAddr::new(0x8000_0000_0000)));
    assert!(X86_64::<5>::is_kernel_address(VirtAddr::new(0x8000_0000_0000)));
    assert!(!Arm64::<12, 48>::is_kernel_address(VirtAddr::new(0x1000)));
}

#[test]
fn attributes_are_written_in_columns() {
    extern crate std;
    use std::string::ToString;
    assert_eq!(Attributes::KERNEL_CODE.to_string(), "    ro x  GLB normal");
    let user = Attributes { prot: Prot::USER | Prot::WRITE, memory_type: MemoryType::StrictDevice };
    assert_eq!(user.to_string(), "USR RW NX     strict-device");
    let names: std::vec::Vec<_> =
        [Level::PTE, Level::PMD, Level::PUD, Level::P4D, Level::PGD].iter().map(ToString::to_string).collect();
    assert_eq!(names, ["pte", "pmd", "pud", "p4d", "pgd"]);
}

proptest! {
    #[test]
    fn a_leaf_decodes_to_what_was_encoded(level in 0u8..3, raw: u64, attributes in any_attributes()) {
        for_every_format!(leaves_come_back(level, raw, attributes));
    }

    #[test]
    fn the_mark_of_watchers_is_a_bit_of_its_own_or_none(level in 0u8..3, raw: u64, attributes in any_attributes()) {
        for_every_format!(the_mark_is_one_bit(level, raw, attributes));
    }

    #[test]
    fn other_permissions_leave_address_and_type(level in 0u8..3, raw: u64, attributes in any_attributes(), bits in 0u8..128) {
        for_every_format!(permissions_change_alone(level, raw, attributes, bits));
    }

    #[test]
    fn a_table_decodes_to_what_was_encoded(level in 1u8..5, raw: u64) {
        for_every_format!(tables_come_back(level, raw));
    }

    #[test]
    fn any_word_is_read_as_some_entry(level in 0u8..5, word: u64) {
        for_every_format!(every_word_decodes_and_stays_what_it_is(level, word));
    }

    #[test]
    fn indexes_and_offset_make_up_the_address(raw: u64) {
        for_every_format!(addresses_split_and_join(raw));
    }
}

fn roots_are_divided<F: PageTableFormat>(shared: bool) {
    let kernel = F::kernel_root_entries();
    assert_eq!(!kernel.is_empty(), shared, "of {:?}", F::default());
    assert!(kernel.end <= F::entries(F::ROOT));
    if shared {
        let first = F::kernel_address(((kernel.start as u64) << F::shift(F::ROOT)) & ((1 << F::VIRT_BITS) - 1));
        assert!(F::is_kernel_address(first) && F::index(F::ROOT, first) == kernel.start);
        assert!(kernel.contains(&F::index(F::ROOT, F::DIRECT_MAP_BASE)), "the direct map is the kernel's");
        assert!(kernel.contains(&F::index(F::ROOT, F::VMALLOC.start)));
        assert_eq!(kernel.end, F::entries(F::ROOT), "up to the highest address");
    }
}

#[test]
fn a_root_for_both_halves_has_the_kernels_entries_at_its_end() {
    roots_are_divided::<X86_64<4>>(true);
    roots_are_divided::<X86_64<5>>(true);
    roots_are_divided::<X86Pae>(true);
    roots_are_divided::<Arm64<12, 48>>(false);
    roots_are_divided::<Arm64<14, 47>>(false);
    roots_are_divided::<Arm64<16, 48>>(false);
    roots_are_divided::<Arm64<16, 52>>(false);
}
