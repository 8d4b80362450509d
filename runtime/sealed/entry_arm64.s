#include "textflag.h"

// See entry_amd64.s.

DATA berth_exe<>+0(SB)/8, $"/proc/se"
DATA berth_exe<>+8(SB)/8, $"lf/exe\x00\x00"
GLOBL berth_exe<>(SB), RODATA, $16
DATA berth_empty<>+0(SB)/8, $0
GLOBL berth_empty<>(SB), RODATA, $8

// The stack has argc, argv, envp. R19, R20 survive system calls.
TEXT berth_sealed_entry(SB),NOSPLIT|NOFRAME,$0-0
	MOVD	RSP, R19
	SUB	$256, RSP, RSP

	MOVD	$43, R8	// statfs("/proc/self/exe", buf)
	MOVD	$berth_exe<>(SB), R0
	MOVD	RSP, R1
	SVC
	CBNZ	R0, start
	MOVD	80(RSP), R0	// buf.f_flags & ST_RDONLY: sealed
	TBNZ	$0, R0, start

	MOVD	$428, R8	// open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)
	MOVD	$-100, R0
	MOVD	$berth_exe<>(SB), R1
	MOVD	$0x80001, R2
	SVC
	TBNZ	$63, R0, start
	MOVD	R0, R20

	MOVD	$1, R0	// mount_setattr(fd, "", AT_EMPTY_PATH, {attr_set: MOUNT_ATTR_RDONLY}, 32)
	MOVD	R0, 0(RSP)
	MOVD	ZR, 8(RSP)
	MOVD	ZR, 16(RSP)
	MOVD	ZR, 24(RSP)
	MOVD	$442, R8
	MOVD	R20, R0
	MOVD	$berth_empty<>(SB), R1
	MOVD	$0x1000, R2
	MOVD	RSP, R3
	MOVD	$32, R4
	SVC
	CBNZ	R0, close

	MOVD	$281, R8	// execveat(fd, "", argv, envp, AT_EMPTY_PATH)
	MOVD	R20, R0
	MOVD	$berth_empty<>(SB), R1
	ADD	$8, R19, R2
	MOVD	0(R19), R3
	ADD	R3<<3, R2, R3
	ADD	$8, R3, R3
	MOVD	$0x1000, R4
	SVC

close:
	MOVD	$57, R8
	MOVD	R20, R0
	SVC
start:
	MOVD	R19, RSP
	B	berth_mapped_entry(SB)
