#include "textflag.h"

// func handlerAddress() (handler, restorer uintptr)
TEXT ·handlerAddress(SB),NOSPLIT,$0-16
	LEAQ	·handler<>(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	·restorer<>(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET

// The kernel calls it with the signal in DI, and puts every register back afterwards.
TEXT ·handler<>(SB),NOSPLIT|NOFRAME,$0-0
	MOVL	·target(SB), AX
	TESTL	AX, AX
	JLT	nobody
	MOVL	DI, SI
	MOVL	AX, DI
	MOVL	$0, DX
	MOVL	$0, R10
	MOVL	$424, AX	// pidfd_send_signal(target, signal, NULL, 0)
	SYSCALL
	RET
nobody:
	DECL	DI
	LOCK
	BTSQ	DI, ·pending(SB)
	RET

TEXT ·restorer<>(SB),NOSPLIT|NOFRAME,$0-0
	MOVL	$15, AX	// rt_sigreturn
	SYSCALL
	INT	$3
