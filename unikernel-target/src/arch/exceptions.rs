//! Exceptions: page faults go to whoever pages the far heap, everything else is the end.
//!
//! ```text
//!   #PF ─► fault stack ─► mm's trap: a touch of far memory is resolved and made again
//!                           └─ anything else ─┐
//!   any other ─► fatal stack ─► registers printed ─► QEMU exits with 3  ◄──────┘
//! ```
//!
//! Every exception has a stack of its own (IST), because compiled code uses the red zone below the stack.
//! Refuses to go on after anything that nobody has claimed.

use super::power::{Failure, fail};
use crate::mm::far_fault;
use crate::println;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, SS, Segment};
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::registers::control::{Cr2, Cr3};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// Bytes of each exception stack: the pager's handler calls a link, which is a few frames deep.
const STACK_SIZE: usize = 32 * 1024;
/// Exceptions that the processor knows.
const VECTORS: usize = 32;
/// Gates of an IDT.
const GATES: usize = 256;
/// The one that the far heap is paged by.
const PAGE_FAULT: usize = 14;

/// Which stack of the TSS.
const FAULT_STACK: u16 = 0;
const FATAL_STACK: u16 = 1;
const WAKE_STACK: u16 = 2;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

/// What the processor looks at on an exception, and the stacks that it goes to.
struct Tables {
    stacks: [Stack; 3],
    tss: TaskStateSegment,
    gdt: GlobalDescriptorTable,
    idt: [[u64; 2]; GATES],
}

struct Once(UnsafeCell<Tables>);

// SAFETY: only `init` writes, once, while there is one thread; afterwards only the processor looks.
unsafe impl Sync for Once {}

static TABLES: Once = Once(UnsafeCell::new(Tables {
    stacks: [const { Stack([0; STACK_SIZE]) }; 3],
    tss: TaskStateSegment::new(),
    gdt: GlobalDescriptorTable::new(),
    idt: [[0; 2]; GATES],
}));

/// What the stubs push, lowest address first.
#[repr(C)]
pub struct Registers {
    /// r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax.
    general: [u64; 15],
    vector: u64,
    /// The processor's error code, or zero.
    pub error_code: u64,
    /// Of the instruction that will be tried again.
    pub rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

global_asm!(
    r#"
    .section .text.exceptions, "ax"
    .altmacro
    .macro save_registers
        push rax
        push rcx
        push rdx
        push rsi
        push rdi
        push r8
        push r9
        push r10
        push r11
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        cld
    .endm

    .macro exception_stub vector
    .globl exception_\vector
    exception_\vector:
        // These push an error code; the others get a zero in its place.
        .if (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21) || (\vector == 29) || (\vector == 30)
        .else
            push 0
        .endif
        push \vector
        jmp exception_fatal
    .endm

    .set vector, 0
    .rept 32
        exception_stub %vector
        .set vector, vector + 1
    .endr

exception_fatal:
    save_registers
    mov rdi, rsp
    call {fatal}
    ud2

    // An interrupt only ends a halt: it is acknowledged at the local APIC, and that is all.
    .globl wake_entry
wake_entry:
    push rax
    mov eax, 0xfee000b0
    mov dword ptr [rax], 0
    pop rax
    iretq

    .macro exception_address vector
        .quad exception_\vector
    .endm
    .section .rodata.exceptions, "a"
    .balign 8
    .globl exception_entries
exception_entries:
    .set vector, 0
    .rept 32
        exception_address %vector
        .set vector, vector + 1
    .endr
    .noaltmacro
    .text
"#,
    fatal = sym fatal,
);

unsafe extern "C" {
    static exception_entries: [u64; VECTORS];
    fn wake_entry();
}

/// Loads GDT, TSS and IDT. To be called once, first of all.
pub fn init() {
    // SAFETY: this runs once, before anything else could look.
    let tables: &'static mut Tables = unsafe { &mut *TABLES.0.get() };
    for stack in [FAULT_STACK, FATAL_STACK, WAKE_STACK] {
        let memory = &raw const tables.stacks[usize::from(stack)];
        tables.tss.interrupt_stack_table[usize::from(stack)] = VirtAddr::from_ptr(memory) + STACK_SIZE as u64;
    }
    let code = tables.gdt.append(Descriptor::kernel_code_segment());
    let data = tables.gdt.append(Descriptor::kernel_data_segment());
    let task = tables.gdt.append(Descriptor::tss_segment(&tables.tss));
    tables.gdt.load();
    for (vector, gate) in tables.idt.iter_mut().enumerate() {
        // SAFETY: the stubs' own table, which is never written.
        let exception = unsafe { exception_entries.get(vector) };
        let (entry, stack) = match exception {
            _ if vector == PAGE_FAULT => (far_fault as *const () as u64, FAULT_STACK),
            Some(&entry) => (entry, FATAL_STACK),
            None => (wake_entry as *const () as u64, WAKE_STACK),
        };
        *gate = interrupt_gate(entry, code, stack);
    }
    let idt = DescriptorTablePointer {
        limit: (size_of_val(&tables.idt) - 1) as u16,
        base: VirtAddr::from_ptr(&raw const tables.idt),
    };
    // SAFETY: the selectors are those of the GDT loaded above, and every gate leads to a stub made for it.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        load_tss(task);
        lidt(&idt);
    }
}

/// An interrupt gate: present, ring 0, interrupts off. Source: Intel SDM, volume 3, figure 6-8.
fn interrupt_gate(entry: u64, code: SegmentSelector, stack: u16) -> [u64; 2] {
    let low = (entry & 0xffff)
        | u64::from(code.0) << 16
        | u64::from(stack + 1) << 32
        | 0x8e00 << 32
        | (entry & 0xffff_0000) << 32;
    [low, entry >> 32]
}

extern "C" fn fatal(registers: &Registers) -> ! {
    const GENERAL: [&str; 15] = [
        "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rdi", "rsi", "rdx", "rcx", "rax",
    ];
    let Registers { general, vector, error_code, rip, rflags, rsp, .. } = registers;
    let name = EXCEPTIONS.get(*vector as usize).copied().unwrap_or("exception");
    println!("\nremora: {name} (vector {vector}, error code {error_code:#x}) at rip {rip:#x}");
    println!(
        "  cr2 {:#x}, cr3 {:#x}, rsp {rsp:#x}, rflags {rflags:#x}",
        Cr2::read_raw(),
        Cr3::read_raw().0.start_address()
    );
    for (names, values) in GENERAL.chunks(4).zip(general.chunks(4)) {
        names.iter().zip(values).for_each(|(name, value)| crate::print!("  {name:>3} {value:016x}"));
        crate::print!("\n");
    }
    fail(Failure::Bug)
}

const EXCEPTIONS: [&str; VECTORS] = [
    "divide error",
    "debug",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection fault",
    "page fault",
    "reserved",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization exception",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security exception",
    "reserved",
];
