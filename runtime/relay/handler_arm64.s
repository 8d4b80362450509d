#include "textflag.h"

// func handlerAddress() (handler, restorer uintptr)
TEXT ·handlerAddress(SB),NOSPLIT,$0-16
	MOVD	$·handler<>(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	ZR, restorer+8(FP)
	RET

// The kernel calls it with the signal in R0, and puts every register back afterwards.
TEXT ·handler<>(SB),NOSPLIT|NOFRAME,$0-0
	MOVD	$·target(SB), R5
	LDARW	(R5), R4
	CMPW	$0, R4
	BGE	send
	SUB	$1, R0, R6
	MOVD	$1, R1
	LSL	R6, R1
	MOVD	$·pending(SB), R2
note:
	LDAXR	(R2), R3
	ORR	R1, R3
	STLXR	R3, (R2), R6
	CBNZ	R6, note
	LDARW	(R5), R4	// To may have looked at pending just before: the signal is ours, or its, whoever clears the bit
	CMPW	$0, R4
	BLT	done
take:
	LDAXR	(R2), R3
	AND	R1, R3, R7
	BIC	R1, R3
	STLXR	R3, (R2), R6
	CBNZ	R6, take
	CBZ	R7, done
send:
	MOVD	R0, R1
	MOVD	R4, R0
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$424, R8	// pidfd_send_signal(target, signal, NULL, 0)
	SVC
done:
	RET
