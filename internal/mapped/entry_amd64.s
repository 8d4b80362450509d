#include "textflag.h"

// The stack has argc, argv, envp; nothing else that _rt0_amd64_linux looks at is passed in.
TEXT berth_mapped_entry(SB),NOSPLIT|NOFRAME,$0-0
	LEAQ	runtime·noptrdata(SB), DI	// madvise(data and bss, MADV_POPULATE_WRITE)
	LEAQ	runtime·end(SB), SI
	ANDQ	$~4095, DI
	SUBQ	DI, SI
	MOVQ	$23, DX
	MOVQ	$28, AX
	SYSCALL
	LEAQ	runtime·text(SB), DI	// madvise(text, constants and tables, MADV_POPULATE_READ)
	LEAQ	runtime·epclntab(SB), SI
	ANDQ	$~4095, DI
	SUBQ	DI, SI
	MOVQ	$22, DX
	MOVQ	$28, AX
	SYSCALL
	JMP	_rt0_amd64_linux(SB)
