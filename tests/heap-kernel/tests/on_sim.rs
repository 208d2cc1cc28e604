//! Runs the example's code on two CPUs of the hosted machine, with every byte that it allocates in the machine's memory.
//!
//! A hosted process allocates before and beside the machine; threads that act as no CPU keep using the host's heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;

use mmkit_heap_kernel::Ramfs;
use object_allocator::GlobalHeap;
use sim::description::Machine;
use sim::{SimMachine, SimOptions, SimPlatform};
use units::{CpuId, Gfp, NodeId};

const DESCRIPTION: &str = r#"
    arch = "x86-64"
    nodes = [{ cpus = 2, memory = ["0+128M"] }]
"#;

struct HostedHeap {
    kernel: GlobalHeap<SimPlatform>,
}

// SAFETY: each address goes back to the heap that it came from.
unsafe impl GlobalAlloc for HostedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        let object = unsafe { self.kernel.alloc(layout) };
        // SAFETY: the caller's contract.
        if object.is_null() { unsafe { System.alloc(layout) } } else { object }
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        if self.kernel.owns(object) {
            // SAFETY: the caller's contract.
            unsafe { self.kernel.dealloc(object, layout) }
        } else {
            // SAFETY: the caller's contract.
            unsafe { System.dealloc(object, layout) }
        }
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if self.kernel.owns(object) {
            // SAFETY: the caller's contract.
            unsafe { self.kernel.realloc(object, layout, new_size) }
        } else {
            // SAFETY: the caller's contract.
            unsafe { System.realloc(object, layout, new_size) }
        }
    }
}

#[global_allocator]
static HEAP: HostedHeap = HostedHeap { kernel: GlobalHeap::new(Gfp::KERNEL) };

fn main() -> Result<(), Box<dyn Error>> {
    let description = Machine::parse("heap-kernel.toml", DESCRIPTION)?;
    let machine: &'static SimMachine = Box::leak(Box::new(SimMachine::boot(&description, &SimOptions::default())?));
    let objects = machine.kernel().objects();
    let slab_pages = || objects.node_stats(NodeId::ZERO).slab_unreclaimable();
    let cpu = machine.cpu(CpuId::ZERO).ok_or("CPU 0 is in use")?;
    objects.start(&cpu)?;
    drop(cpu);
    let before = slab_pages();
    HEAP.kernel.set(objects);

    let written = machine.run_on_cpus(2, |cpu| {
        let mut ramfs = Ramfs::default();
        for number in 0..3000u32 {
            let name = format!("file-{}-{}", cpu.id(), number % 100);
            assert!(HEAP.kernel.owns(name.as_ptr()), "a string of the kernel lies in the machine's memory");
            ramfs.append(&name, &number.to_le_bytes().repeat(number as usize % 97 + 1));
        }
        for number in (0..100).step_by(2) {
            assert!(ramfs.remove(&format!("file-{}-{number}", cpu.id())));
        }
        ramfs
    })?;
    assert!(slab_pages() > before + 100, "{} pages before, {} now", before, slab_pages());

    // Read and dropped by a thread that is no CPU: the memory goes back through the list of frees without one.
    for ramfs in written {
        assert_eq!(ramfs.names().count(), 50);
        let name = ramfs.names().next().ok_or("no file")?.to_owned();
        let contents = ramfs.read(&name).ok_or("no contents")?;
        let number = name.rsplit('-').next().ok_or("no number")?.parse::<u32>()?;
        let expected = (0..30).map(|round| number + round * 100);
        let expected = expected.flat_map(|number| number.to_le_bytes().repeat(number as usize % 97 + 1));
        assert!(contents.iter().copied().eq(expected), "{name} reads back as written");
    }
    machine.run_on_cpus(1, |_| drop(std::hint::black_box(Box::new(1))))?;

    let cpu = machine.cpu(CpuId::ZERO).ok_or("CPU 0 is in use")?;
    objects.shrink_caches(&cpu);
    assert!(slab_pages() <= before, "{} pages before, {} at the end", before, slab_pages());
    assert_eq!(objects.slab_faults(&cpu), 0);
    println!("kernel heap on the hosted machine: ok");
    Ok(())
}
