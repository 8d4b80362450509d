package api

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/internal/frame"
)

// pair returns a client's connection and the engine's.
func pair(t *testing.T) (client, engine net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if engine, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		engine.Close()
	})
	return client, engine
}

// TestStoppedClient: what is sent to a client that reads nothing fails after its time, and the connection with it: who
// reads from it does not wait any longer either.
func TestStoppedClient(t *testing.T) {
	_, engine := pair(t)
	read := make(chan error, 1)
	go func() {
		_, _, err := frame.NewReader(engine).Next()
		read <- err
	}()
	down := frame.NewWriter(patient{engine, 10 * time.Millisecond})
	var err error
	for err == nil { // until what the kernel holds for the client is full
		err = down.WriteJSON(wire.BuildExit, wire.BuildExitBody{Error: strings.Repeat("x", 64<<10)})
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "the client has read nothing for 10ms") {
		t.Error(err)
	}
	if err := <-read; err == nil {
		t.Error("the connection is still there")
	}
}

// TestReadingClient: one that reads gets everything.
func TestReadingClient(t *testing.T) {
	client, engine := pair(t)
	got := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, client)
		got <- n
	}()
	down := patient{engine, time.Hour}
	for range 100 {
		if _, err := down.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	engine.Close()
	if n := <-got; n != 100*64<<10 {
		t.Errorf("%d bytes", n)
	}
}

// TestFinishStopped: the end of a connection whose client does not go is not waited for for ever.
func TestFinishStopped(t *testing.T) {
	_, engine := pair(t)
	h := &hijacked{Conn: engine}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, engine)
	}()
	h.finishWithin(10*time.Millisecond, func() { <-gone })
}
