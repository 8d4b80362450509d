package relay

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the handler reads and writes; it is one for the program, as signals are.
var (
	target  int32  // the pidfd that signals go to, -1: nobody yet
	pending uint64 // bit n-1: signal n came while there was nobody
)

// handlerAddress returns where the handler is, and the code that returns from it (0: the kernel has its own).
func handlerAddress() (handler, restorer uintptr)

// action is struct sigaction of rt_sigaction(2).
type action struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

const (
	ignore    = 1 // SIG_IGN
	saRestart = 0x10000000
	saOnStack = 0x08000000
	saRestore = 0x04000000
	saSiginfo = 4
)

// Catch takes the signals over. One that this program was started with to ignore stays ignored.
func Catch(signals ...unix.Signal) error {
	atomic.StoreInt32(&target, -1)
	handler, restorer := handlerAddress()
	// on the alternate stack that each of Go's threads has: a goroutine's is too small for the kernel's frame
	a := action{handler: handler, flags: saRestart | saOnStack | saSiginfo, restorer: restorer, mask: ^uint64(0)}
	if restorer != 0 {
		a.flags |= saRestore
	}
	for _, s := range signals {
		var before action
		if err := set(s, &a, &before); err != nil {
			return err
		}
		if before.handler == ignore {
			if err := set(s, &before, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func set(s unix.Signal, a, before *action) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(before)), 8, 0, 0)
	if e != 0 {
		return fmt.Errorf("catch %s: %w", unix.SignalName(s), e)
	}
	return nil
}

// To hands the signals on from now on, and those that came before, to the process behind pidfd, which stays open.
func To(pidfd int) {
	atomic.StoreInt32(&target, int32(pidfd))
	came := atomic.SwapUint64(&pending, 0)
	for s := 1; came != 0; s, came = s+1, came>>1 {
		if came&1 != 0 {
			_ = unix.PidfdSendSignal(pidfd, unix.Signal(s), nil, 0) // it has ended
		}
	}
}
