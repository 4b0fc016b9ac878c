//! From QEMU's PVH entry to Rust: 32 bits to 64, and the first page tables.
//!
//! ```text
//!   QEMU ─► pvh_start (32 bits, no paging, ebx = start info) ─► page tables ─► long mode ─► start
//!
//!   0            4 GiB                        the rest
//!   ├─ identity, ─┼─ nothing until `arch::memory` maps the RAM that there is
//!   │  2 MiB pages│
//! ```
//!
//! Refuses other loaders: the note below is the only entry. Source: Xen's `public/arch-x86/hvm/start_info.h`.

use core::arch::global_asm;

/// Bytes of the main stack. The deepest known path takes a tenth of it.
pub const STACK_SIZE: usize = 256 * 1024;

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18                  // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

    .section .text.boot, "ax"
    .code32
    .globl pvh_start
pvh_start:
    cli
    cld
    movl $boot_stack_end, %esp
    movl %ebx, %edi                 // start info: the first argument of `start`

    // PML4 -> one table of four directories -> 2048 pages of 2 MiB, present and writable.
    movl $boot_pdpt + 3, boot_pml4
    movl $boot_pd + 3, boot_pdpt
    movl $boot_pd + 0x1003, boot_pdpt + 8
    movl $boot_pd + 0x2003, boot_pdpt + 16
    movl $boot_pd + 0x3003, boot_pdpt + 24
    xorl %ecx, %ecx
    movl $0x83, %eax
1:  movl %eax, boot_pd(,%ecx,8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $2048, %ecx
    jb 1b

    movl %cr4, %eax
    orl $0x620, %eax                // PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          // EFER: LME, NXE
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80010033, %eax          // CR0: PG, WP, NE, ET, MP, PE
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $8, $long_start

    .code64
long_start:
    xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    xorl %ebp, %ebp
    movl %edi, %edi
    leaq boot_stack_end, %rsp
    call {start}
    ud2

    .section .rodata.boot, "a"
    .balign 8
boot_gdt:
    .quad 0, 0x00af9a000000ffff     // 64-bit code
boot_gdt_pointer:
    .word 15
    .long boot_gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
    .globl boot_pml4, boot_pdpt
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pd:
    .skip 4 * 4096
    .globl boot_stack
boot_stack:
    .skip {stack_size}
boot_stack_end:
    .text
"#,
    start = sym super::start,
    stack_size = const STACK_SIZE,
    options(att_syntax)
);
