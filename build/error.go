package build

import "github.com/berth-engine/berth/build/solver"

// ExitError is a RUN whose command failed.
type ExitError = solver.ExitError
