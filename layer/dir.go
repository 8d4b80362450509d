package layer

import (
	"context"
	"fmt"
	"path/filepath"
)

// dir unpacks the file into a directory below unpacked, by way of tmp, and mounts that.
type dir struct {
	unpacked, tmp string
}

func (*dir) name() Form { return Dir }

func (d *dir) mount(context.Context, object, string) error {
	return fmt.Errorf("%w: not built yet", errNoForm)
}

func (*dir) made(m mountPoint, _, dir string) bool {
	return filepath.Base(m.root) == filepath.Base(dir)
}

func (*dir) directIO() bool { return true }

func (*dir) notes() []string { return []string{"layers are unpacked and take their disk space twice"} }
