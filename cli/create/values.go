package create

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/berth-engine/berth/cli/client"
)

// list collects the values of a flag that may be given more than once; check may rewrite a value.
type list struct {
	values []string
	check  func(string) (string, error)
}

func (l *list) Set(v string) error {
	if l.check != nil {
		var err error
		if v, err = l.check(v); err != nil {
			return err
		}
	}
	l.values = append(l.values, v)
	return nil
}

func (l *list) Type() string { return "list" }

func (l *list) String() string {
	if len(l.values) == 0 {
		return ""
	}
	return fmt.Sprint(l.values)
}

// orEmpty is for fields that are never null.
func (l *list) orEmpty() []string {
	if l.values == nil {
		return []string{}
	}
	return l.values
}

// keyValues collects name=value.
type keyValues struct {
	values map[string]string
	check  func(string) error
}

func (m *keyValues) Set(v string) error {
	if m.check != nil {
		if err := m.check(v); err != nil {
			return err
		}
	}
	if m.values == nil {
		m.values = map[string]string{}
	}
	k, v, _ := strings.Cut(v, "=")
	m.values[k] = v
	return nil
}

func (m *keyValues) Type() string { return "map" }

func (m *keyValues) String() string {
	if len(m.values) == 0 {
		return ""
	}
	return fmt.Sprint(m.values)
}

// size is a number of bytes: "512m". Where unlimited is allowed, -1 means no limit.
type size struct {
	bytes     int64
	unlimited bool
}

func (s *size) Set(v string) error {
	if s.unlimited && v == "-1" {
		s.bytes = -1
		return nil
	}
	n, err := units.RAMInBytes(v)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 512m or 2g", v)
	}
	s.bytes = n
	return nil
}

func (s *size) Type() string { return "bytes" }

func (s *size) String() string {
	if s.bytes == 0 {
		return "0"
	}
	return units.BytesSize(float64(s.bytes))
}

// cpus is a number of cores, "1.5", kept in 1e-9 cores.
type cpus int64

func (c *cpus) Set(v string) error {
	r, ok := new(big.Rat).SetString(v)
	if !ok {
		return fmt.Errorf("%q is not a number of CPUs such as 1.5", v)
	}
	nano := r.Mul(r, big.NewRat(1e9, 1))
	if !nano.IsInt() || !nano.Num().IsInt64() {
		return fmt.Errorf("%q is too precise: at most nine digits after the point", v)
	}
	*c = cpus(nano.Num().Int64())
	return nil
}

func (c *cpus) Type() string { return "decimal" }

func (c *cpus) String() string {
	if *c == 0 {
		return ""
	}
	return big.NewRat(int64(*c), 1e9).FloatString(3)
}

// ulimits are "name=soft[:hard]"; the last of a name counts.
type ulimits map[string]*client.Ulimit

func (u ulimits) Set(v string) error {
	limit, err := units.ParseUlimit(v)
	var number *strconv.NumError
	if errors.As(err, &number) {
		err = fmt.Errorf("%q is not a number", number.Num)
	}
	if err != nil {
		return fmt.Errorf("%w (a limit looks like nofile=1024:2048)", err)
	}
	u[limit.Name] = &client.Ulimit{Name: limit.Name, Hard: limit.Hard, Soft: limit.Soft}
	return nil
}

func (u ulimits) Type() string { return "ulimit" }

func (u ulimits) String() string { return "[]" }

func (u ulimits) sorted() []*client.Ulimit {
	out := make([]*client.Ulimit, 0, len(u))
	for _, l := range u {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *client.Ulimit) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// weights are "/dev/path:weight".
type weights []*client.WeightDevice

func (w *weights) Set(v string) error {
	path, value, err := deviceValue(v)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || (n != 0 && (n < 10 || n > 1000)) {
		return fmt.Errorf("%q: a weight is a number from 10 to 1000", v)
	}
	*w = append(*w, &client.WeightDevice{Path: path, Weight: uint16(n)})
	return nil
}

func (w *weights) Type() string   { return "list" }
func (w *weights) String() string { return "[]" }

// rates are "/dev/path:rate", in bytes a second ("1mb") or in operations.
type rates struct {
	values []*client.ThrottleDevice
	bytes  bool
}

func (r *rates) Set(v string) error {
	path, value, err := deviceValue(v)
	if err != nil {
		return err
	}
	var n uint64
	if r.bytes {
		var b int64
		if b, err = units.RAMInBytes(value); err == nil && b < 0 {
			err = fmt.Errorf("negative")
		}
		n = uint64(b)
	} else {
		n, err = strconv.ParseUint(value, 10, 64)
	}
	if err != nil {
		return fmt.Errorf("%q is not /dev/path:rate, the rate a positive number (of bytes: also with kb, mb, gb)", v)
	}
	r.values = append(r.values, &client.ThrottleDevice{Path: path, Rate: n})
	return nil
}

func (r *rates) Type() string   { return "list" }
func (r *rates) String() string { return "[]" }

func (r *rates) orEmpty() []*client.ThrottleDevice {
	if r.values == nil {
		return []*client.ThrottleDevice{}
	}
	return r.values
}

func deviceValue(v string) (path, value string, err error) {
	path, value, ok := strings.Cut(v, ":")
	if !ok || !strings.HasPrefix(path, "/dev/") {
		return "", "", fmt.Errorf("%q is not /dev/path:value", v)
	}
	return path, value, nil
}
