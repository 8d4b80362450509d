#include "textflag.h"

// func rawClone(nr, a1, a2, a3, a4, a5 uintptr, st *stage) (r, errno uintptr)
// clone(2) or clone3(2). A child with a copy of our memory has a stack pointer of 0, st is nil, and it returns 0. One
// with CLONE_VM comes up on a stack of its own, with our registers, and calls run(st).
TEXT ·rawClone(SB),NOSPLIT|NOFRAME,$0-72
	MOVD	nr+0(FP), R8
	MOVD	a1+8(FP), R0
	MOVD	a2+16(FP), R1
	MOVD	a3+24(FP), R2
	MOVD	a4+32(FP), R3
	MOVD	a5+40(FP), R4
	MOVD	st+48(FP), R9
	MOVD	$0, R5
	SVC
	CBZ	R0, child
	CMN	$4095, R0
	BCC	ok
	NEG	R0, R0
	MOVD	$-1, R1
	MOVD	R1, r+56(FP)
	MOVD	R0, errno+64(FP)
	RET
child:
	CBNZ	R9, beside
ok:
	MOVD	R0, r+56(FP)
	MOVD	ZR, errno+64(FP)
	RET
beside:
	MOVD	ZR, R29
	SUB	$32, RSP
	MOVD	R9, 8(RSP)
	BL	·run(SB)
	BRK	$0

// func trap()
// Ends the process where not even exit_group is allowed.
TEXT ·trap(SB),NOSPLIT|NOFRAME,$0-0
	BRK	$0
	RET
