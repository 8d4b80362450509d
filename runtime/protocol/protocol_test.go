package protocol

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/internal/frame"
)

func pair(t *testing.T, phase Phase) (engine, shim *Conn) {
	t.Helper()
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if engine, err = NewConn(a, Engine, phase); err != nil {
		t.Fatal(err)
	}
	if shim, err = NewConn(b, Shim, phase); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close(); shim.Close() })
	return engine, shim
}

func send(t *testing.T, c *Conn, kind Kind, v any, files ...*os.File) {
	t.Helper()
	if err := c.Send(kind, v, files...); err != nil {
		t.Fatalf("send %q: %v", rune(kind), err)
	}
}

func recv(t *testing.T, c *Conn, kind Kind) Message {
	t.Helper()
	m, err := c.Recv()
	if err != nil || m.Kind != kind {
		t.Fatalf("received %q, %v, want %q", rune(m.Kind), err, rune(kind))
	}
	t.Cleanup(m.Close)
	return m
}

// TestConversations holds every conversation from its beginning to its end.
func TestConversations(t *testing.T) {
	for name, c := range map[string]struct {
		begin, end Phase
		said       string // lower case letters are the engine's, upper case ones the shim's
	}{
		"cold start":        {Launched, Ended, "sPX"},
		"warm start":        {Launched, Ended, "pRddsPX"},
		"one after another": {Launched, Ended, "pRsPXIpRsPX"},
		"failed start":      {Launched, Over, "dsF"},
		"failed slot":       {Launched, Over, "pF"},
		"watch":             {Open, Over, "wQX"},
		"calls":             {Open, Open, "kDzFqQrD"},
		"attach":            {Open, Over, "aDOiEcizOX"},
		"slow attach":       {Open, Over, "aDOLi"},
		"attach to nobody":  {Open, Over, "aF"},
		"exec":              {Open, Over, "xPiOEkzcX"},
		"failed exec":       {Open, Over, "xF"},
	} {
		engine, shim := pair(t, c.begin)
		for _, k := range c.said {
			from, to := engine, shim
			if k < 'a' {
				from, to = shim, engine
			}
			send(t, from, Kind(k), nil)
			if Kind(k) != Descriptors { // Recv adds them to what they belong to
				recv(t, to, Kind(k))
			}
		}
		if engine.Phase() != c.end || shim.Phase() != c.end {
			t.Errorf("%s ends in %v and %v, want %v", name, engine.Phase(), shim.Phase(), c.end)
		}
	}
}

// TestOutOfOrder tries every message in every phase: those that the table does not have are refused by who would
// send them and by who receives them.
func TestOutOfOrder(t *testing.T) {
	allowed := 0
	for phase := Launched; phase <= Over; phase++ {
		for _, k := range "dpswaxkzqricRPFDQOELXI" {
			side := Engine
			if k < 'a' {
				side = Shim
			}
			for _, s := range []Side{Engine, Shim} {
				_, err := After(phase, s, Kind(k))
				if s != side && err == nil {
					t.Errorf("side %c may say %q in phase %v", s, k, phase)
				}
				if err != nil && !strings.Contains(err.Error(), "out of order in phase "+phase.String()) {
					t.Errorf("%v", err)
				}
				if err == nil {
					allowed++
				}
			}
		}
	}
	// A shim offers itself again when a container that it was launched for has ended, and at no other time.
	for phase := Launched; phase <= Over; phase++ {
		if _, err := After(phase, Shim, Idle); (err == nil) != (phase == Ended) {
			t.Errorf("idle in phase %v: %v", phase, err)
		}
	}
	if allowed != 40 {
		t.Errorf("%d messages are in order, counted over all phases; the table was changed: are the conversations above complete?", allowed)
	}
	engine, shim := pair(t, Open)
	if err := engine.Send(Stdin, []byte("x")); err == nil {
		t.Error("stdin was sent before there was a stream")
	}
	if err := frame.NewWriter(engine.File()).Write(Stdin, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Recv(); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("stdin before there was a stream: %v", err)
	}
}

func TestDescriptors(t *testing.T) {
	engine, shim := pair(t, Launched)
	var files []*os.File
	dir := t.TempDir()
	for i := range 600 {
		f, err := os.Create(filepath.Join(dir, string(rune('a'+i%26))+strings.Repeat("x", i/26)))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		defer f.Close()
	}
	done := make(chan error, 1)
	go func() { done <- engine.Send(Start, StartRequest{ID: strings.Repeat("i", 1<<20)}, files...) }()
	m := recv(t, shim, Start)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(m.Files) != len(files) {
		t.Fatalf("%d descriptors arrived, %d were sent", len(m.Files), len(files))
	}
	for i := range files {
		a, _ := files[i].Stat()
		b, err := m.Files[i].Stat()
		if err != nil || !os.SameFile(a, b) {
			t.Fatalf("descriptor %d is another one: %v", i, err)
		}
	}
	var r StartRequest
	if err := m.Decode(&r); err != nil || len(r.ID) != 1<<20 {
		t.Errorf("%v, %d bytes", err, len(r.ID))
	}
}

func TestEnd(t *testing.T) {
	engine, shim := pair(t, Open)
	send(t, engine, Ask, nil)
	if err := engine.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	recv(t, shim, Ask)
	if _, err := shim.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	send(t, shim, Status, State{ID: "x"})
	recv(t, engine, Status)
	if err := shim.Close(); err != nil {
		t.Fatal(err)
	}
	if err := engine.Send(Ask, nil); !errors.Is(err, unix.EPIPE) {
		t.Errorf("to nobody: %v", err)
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 60))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := Listen(dir); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second shim in one directory: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(dir); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a shim that is gone: %v", err)
	}
	if _, err := Dial(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory without a shim: %v", err)
	}
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadRecord(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	r := Record{ID: "x", Shim: 5, Pid: 7, Cgroup: "/berth/x", Started: time.Now().Round(0)}
	f, err := CreateRecord(dir, r)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, _ := os.Stat(filepath.Join(dir, RecordName))
	r.Exit = &ExitReport{Status: 137, At: time.Now().Round(0), OOMKilled: true, LogOffset: 1 << 60}
	if err := f.Write(r); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(filepath.Join(dir, RecordName))
	if before.Size() != recordSize || after.Size() != recordSize {
		t.Errorf("the record grew from %d to %d bytes", before.Size(), after.Size())
	}
	r.Version = Version
	got, err := ReadRecord(dir)
	if err != nil || !got.Started.Equal(r.Started) || !got.Exit.At.Equal(r.Exit.At) {
		t.Fatalf("%+v, %v", got, err)
	}
	got.Started, got.Exit.At = r.Started, r.Exit.At
	if !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, want %+v", got, r)
	}
	if err := f.Write(Record{ID: strings.Repeat("x", recordSize)}); err == nil {
		t.Error("a record that does not fit was written")
	}
	b, err := os.ReadFile(filepath.Join(dir, RecordName))
	if err != nil {
		t.Fatal(err)
	}
	for i := range bytes.IndexByte(b, '\n') + 15 {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1
		if _, err := parseRecord(damaged); !errors.Is(err, ErrDamagedRecord) {
			t.Fatalf("with byte %d changed: %v", i, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("{}\ncrc32:a3f4b2c1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseRecord(b); err != nil && !errors.Is(err, ErrDamagedRecord) {
			t.Error(err)
		}
	})
}

func FuzzRecv(f *testing.F) {
	f.Add([]byte("q\x00\x00\x00\x00k\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, b, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		c, err := NewConn(b, Shim, Open)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = a.Write(in); a.Close() }()
		for {
			m, err := c.Recv()
			if err != nil {
				return
			}
			var r SignalRequest
			_ = m.Decode(&r)
		}
	})
}
