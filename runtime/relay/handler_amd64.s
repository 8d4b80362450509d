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
	JGE	send
	LEAL	-1(DI), CX
	LOCK
	BTSQ	CX, ·pending(SB)
	MOVL	·target(SB), AX	// To may have looked at pending just before: the signal is ours, or its, whoever clears the bit
	TESTL	AX, AX
	JLT	done
	LOCK
	BTRQ	CX, ·pending(SB)
	JCC	done
send:
	MOVL	DI, SI
	MOVL	AX, DI
	MOVL	$0, DX
	MOVL	$0, R10
	MOVL	$424, AX	// pidfd_send_signal(target, signal, NULL, 0)
	SYSCALL
done:
	RET

TEXT ·restorer<>(SB),NOSPLIT|NOFRAME,$0-0
	MOVL	$15, AX	// rt_sigreturn
	SYSCALL
	INT	$3
