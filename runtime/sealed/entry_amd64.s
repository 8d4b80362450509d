#include "textflag.h"

// An entry point of the program before Go's own (link with -ldflags=-E=berth_sealed_entry): it does what Self does,
// before the Go runtime starts, so that sealing costs an execve and not a second start of Go. Whatever fails
// here is tried again, and said, by Self. It goes on to the entry point of internal/mapped.

DATA berth_exe<>+0(SB)/8, $"/proc/se"
DATA berth_exe<>+8(SB)/8, $"lf/exe\x00\x00"
GLOBL berth_exe<>(SB), RODATA, $16
DATA berth_empty<>+0(SB)/8, $0
GLOBL berth_empty<>(SB), RODATA, $8

// The stack has argc, argv, envp. BX, R12 survive system calls.
TEXT berth_sealed_entry(SB),NOSPLIT|NOFRAME,$0-0
	MOVQ	SP, BX
	SUBQ	$256, SP

	MOVQ	$137, AX	// statfs("/proc/self/exe", buf)
	LEAQ	berth_exe<>(SB), DI
	MOVQ	SP, SI
	SYSCALL
	TESTQ	AX, AX
	JNE	start
	MOVQ	80(SP), AX	// buf.f_flags & ST_RDONLY: sealed
	ANDQ	$1, AX
	JNE	start

	MOVQ	$428, AX	// open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)
	MOVQ	$-100, DI
	LEAQ	berth_exe<>(SB), SI
	MOVQ	$0x80001, DX
	SYSCALL
	TESTQ	AX, AX
	JLT	start
	MOVQ	AX, R12

	MOVQ	$1, 0(SP)	// mount_setattr(fd, "", AT_EMPTY_PATH, {attr_set: MOUNT_ATTR_RDONLY}, 32)
	MOVQ	$0, 8(SP)
	MOVQ	$0, 16(SP)
	MOVQ	$0, 24(SP)
	MOVQ	$442, AX
	MOVQ	R12, DI
	LEAQ	berth_empty<>(SB), SI
	MOVQ	$0x1000, DX
	MOVQ	SP, R10
	MOVQ	$32, R8
	SYSCALL
	TESTQ	AX, AX
	JNE	close

	MOVQ	$322, AX	// execveat(fd, "", argv, envp, AT_EMPTY_PATH)
	MOVQ	R12, DI
	LEAQ	berth_empty<>(SB), SI
	LEAQ	8(BX), DX
	MOVQ	0(BX), CX
	LEAQ	16(BX)(CX*8), R10
	MOVQ	$0x1000, R8
	SYSCALL

close:
	MOVQ	$3, AX
	MOVQ	R12, DI
	SYSCALL
start:
	MOVQ	BX, SP
	JMP	berth_mapped_entry(SB)
