#include "textflag.h"

// See entry_amd64.s.
TEXT berth_mapped_entry(SB),NOSPLIT|NOFRAME,$0-0
	MOVD	$runtime·noptrdata(SB), R0	// madvise(data and bss, MADV_POPULATE_WRITE)
	MOVD	$runtime·end(SB), R1
	MOVD	$~4095, R3
	AND	R3, R0
	SUB	R0, R1
	MOVD	$23, R2
	MOVD	$233, R8
	SVC
	MOVD	$runtime·text(SB), R0	// madvise(text, constants and tables, MADV_POPULATE_READ)
	MOVD	$runtime·epclntab(SB), R1
	MOVD	$~4095, R3
	AND	R3, R0
	SUB	R0, R1
	MOVD	$22, R2
	MOVD	$233, R8
	SVC
	MOVD	ZR, R0
	B	_rt0_arm64_linux(SB)
