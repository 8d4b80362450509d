package compile

import (
	"errors"
	"os"

	"github.com/berth-engine/berth/runtime/script"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var errNotBuilt = errors.New("not built yet")

// Start compiles a whole start. It reads nothing but what it is given, except that bind mounts' sources are
// looked at (file or directory).
func Start(spec *specs.Spec, in Inputs) (*Plan, error) { return nil, errNotBuilt }

// Prepare compiles the first half of a slot: a container that looks like spec, whose root, mounts (but for
// /proc, /dev, /sys and what belongs to them), process and hostname are not known yet. The child waits in an
// empty root.
func Prepare(spec *specs.Spec, in Inputs) (*Plan, error) { return nil, errNotBuilt }

// Fits says whether a slot that was prepared for one configuration can become another: nil, or the reason
// why not.
func Fits(prepared, wanted *specs.Spec) error { return errNotBuilt }

// Launch makes the child, writes its id maps, serves its meeting points, and returns when the program was
// executed (with Inputs.Wait: when the child waits for its byte), or, for a slot, when it waits. A failed child
// has been reaped; the error wraps a *script.Failure where a step failed. The goroutine must be locked to
// its thread where Inputs.DeathSignal is set. Nobody may wait for any child (wait4 of -1) meanwhile.
func (p *Plan) Launch() (*script.Child, error) { return nil, errNotBuilt }

// Finish gives a waiting slot its second half and returns as Launch does.
func (p *Plan) Finish(spec *specs.Spec, in Inputs) error { return errNotBuilt }

// Close releases the plan's memory. The child is not touched.
func (p *Plan) Close() error { return p.Script.Close() }

// ExecInputs is what an exec needs beyond the process. Stdio, Console, PreserveFDs, Filter, DeathSignal and
// NoNewKeyring mean what they mean in Inputs.
type ExecInputs struct {
	Inputs
	// Target refers to a process of the container (pidfd), whose namespaces are entered.
	Target *os.File
	// TargetPid is its pid.
	TargetPid int
}

// Exec compiles the start of one more process in a container.
func Exec(process *specs.Process, in ExecInputs) (*Plan, error) { return nil, errNotBuilt }
