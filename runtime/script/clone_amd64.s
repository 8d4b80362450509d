#include "textflag.h"

// func rawClone(nr, a1, a2, a3, a4, a5 uintptr, st *stage) (r, errno uintptr)
// clone(2) or clone3(2). A child with a copy of our memory has a stack pointer of 0, st is nil, and it returns 0. One
// with CLONE_VM comes up on a stack of its own, with our registers, and calls run(st).
TEXT ·rawClone(SB),NOSPLIT|NOFRAME,$0-72
	MOVQ	nr+0(FP), AX
	MOVQ	a1+8(FP), DI
	MOVQ	a2+16(FP), SI
	MOVQ	a3+24(FP), DX
	MOVQ	a4+32(FP), R10
	MOVQ	a5+40(FP), R8
	MOVQ	st+48(FP), R12
	MOVQ	$0, R9
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	NEGQ	AX
	MOVQ	$-1, r+56(FP)
	MOVQ	AX, errno+64(FP)
	RET
child:
	TESTQ	R12, R12
	JNZ	beside
ok:
	MOVQ	AX, r+56(FP)
	MOVQ	$0, errno+64(FP)
	RET
beside:
	XORL	BP, BP
	PUSHQ	R12
	CALL	·run(SB)
	BYTE	$0x0f; BYTE $0x0b	// UD2

// func trap()
// Ends the process where not even exit_group is allowed.
TEXT ·trap(SB),NOSPLIT|NOFRAME,$0-0
	BYTE	$0x0f; BYTE $0x0b	// UD2
	RET
