package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/internal/frame"
	"github.com/berth-engine/berth/internal/testroot"
)

// TestMain lets this test binary be the command line: a terminal, signals and exit codes belong to a
// process.
func TestMain(m *testing.M) {
	if os.Getenv("BERTH_TEST_BE_BERTH") != "" {
		if os.Getenv("BERTH_TEST_NO_TMPFILE") != "" {
			if err := testroot.Deny(unix.SYS_OPENAT, unix.EOPNOTSUPP, unix.O_TMPFILE&^unix.O_DIRECTORY); err != nil { // as a file system that has no such files
				panic(err)
			}
		}
		a := &App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: "test", Patience: 300 * time.Millisecond}
		os.Exit(Main(context.Background(), a, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// conversation is the engine's half of one `berth run`.
type conversation struct {
	t       *testing.T
	request wire.RunRequest
	create  client.CreateRequest
	up      *frame.Reader
	down    *frame.Writer
	conn    net.Conn
}

func (c *conversation) send(kind frame.Kind, payload string) {
	if err := c.down.Write(kind, []byte(payload)); err != nil {
		c.t.Errorf("frame %d: %v", kind, err)
	}
}

func (c *conversation) exit(body wire.RunExitBody) {
	if err := c.down.WriteJSON(wire.RunExit, body); err != nil {
		c.t.Error(err)
	}
}

func (c *conversation) created(warnings ...string) {
	if err := c.down.WriteJSON(wire.RunCreated, wire.RunCreatedBody{ID: "0123456789abcdef", Warnings: warnings}); err != nil {
		c.t.Error(err)
	}
}

// next returns the next frame of the client's; 0 at the end.
func (c *conversation) next() (frame.Kind, string) {
	kind, payload, err := c.up.Next()
	if err != nil {
		return 0, err.Error()
	}
	return kind, string(payload)
}

// engineOf serves runs by talk, called once for each connection, and other requests by others.
func engineOf(t *testing.T, talk func(*conversation), others http.HandlerFunc) string {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var talks sync.WaitGroup
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != wire.RunPath || talk == nil {
			if others == nil {
				http.Error(w, "not here", http.StatusNotFound)
				return
			}
			others(w, r)
			return
		}
		talks.Add(1)
		defer talks.Done()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: berth\r\n\r\n")
		c := &conversation{t: t, up: frame.NewReader(conn), down: frame.NewWriter(conn), conn: conn}
		kind, payload, err := c.up.Next()
		if err != nil || kind != wire.RunRequestFrame {
			t.Errorf("the first frame: %d, %v", kind, err)
			return
		}
		if err := json.Unmarshal(payload, &c.request); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(c.request.Create, &c.create); err != nil {
			t.Error(err)
		}
		talk(c)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done; talks.Wait() })
	return "unix://" + sock
}

func TestRun(t *testing.T) {
	host := engineOf(t, func(c *conversation) {
		if c.request.Pull != "never" || c.request.Auth != "" || c.request.Stdin || !c.request.Stdout || !c.request.Stderr || c.request.Detach {
			t.Errorf("%+v", c.request)
		}
		if c.create.Image != "debian" || strings.Join(c.create.Cmd, " ") != "sh -c x" || c.request.Name != "n" {
			t.Errorf("%+v", c.create.Config)
		}
		c.created("be careful")
		c.send(wire.RunStarted, "")
		c.send(wire.RunStdout, "out\n")
		c.send(wire.RunStderr, "err\n")
		c.exit(wire.RunExitBody{Code: 7})
	}, nil)
	out, errs, code := berth(t, host, "", "run", "--name", "n", "debian", "sh", "-c", "x")
	if out != "out\n" || errs != "berth: warning: be careful\nerr\n" || code != 7 {
		t.Errorf("%q, %q, %d", out, errs, code)
	}
}

func TestRunErrors(t *testing.T) {
	for name, test := range map[string]struct {
		talk func(*conversation)
		args []string
		code int
		want string
	}{
		"not found": {func(c *conversation) { c.exit(wire.RunExitBody{Code: 127, Error: "no such program"}) }, nil, 127, "berth: no such program\n"},
		"never pull": {func(c *conversation) {
			c.exit(wire.RunExitBody{Code: 125, Error: "No such image: x", ImageMissing: true})
		}, []string{"--pull", "never"}, 125, "berth: No such image: x\n"},
		"engine dies":    {func(c *conversation) { c.created(); c.send(wire.RunStarted, ""); c.conn.Close() }, nil, 125, "while the engine was away"},
		"unknown frame":  {func(c *conversation) { c.send(99, "") }, nil, 125, "unknown kind 99"},
		"created twice":  {func(c *conversation) { c.created(); c.created() }, nil, 125, "out of order"},
		"started first":  {func(c *conversation) { c.send(wire.RunStarted, "") }, nil, 125, "out of order"},
		"broken JSON":    {func(c *conversation) { c.send(wire.RunExit, "{") }, nil, 125, "could not be read"},
		"pull fails":     {func(c *conversation) { c.send(wire.RunProgress, `{"error":"denied"}`) }, []string{"--pull", "always"}, 125, "berth: denied\n"},
		"no such policy": {nil, []string{"--pull", "perhaps"}, 125, `"perhaps"`},
		"attach, detach": {nil, []string{"-d", "-a", "stdout"}, 125, "--detach"},
		"bad keys":       {nil, []string{"--detach-keys", "x-y"}, 125, "x-y"},
		"bad port":       {nil, []string{"-p", "1:x"}, 125, `--publish "1:x"`},
		"no terminal":    {nil, []string{"-it"}, 1, "not a terminal"},
		"env file":       {nil, []string{"--env-file", "/does/not/exist"}, 125, "/does/not/exist"},
	} {
		t.Run(name, func(t *testing.T) {
			host := engineOf(t, test.talk, nil)
			out, errs, code := berth(t, host, "", append(append([]string{"run"}, test.args...), "x")...)
			if out != "" || code != test.code || !strings.Contains(errs, test.want) {
				t.Errorf("%q, %q, %d", out, errs, code)
			}
			if n := strings.Count(errs, "berth: "); n != 1 {
				t.Errorf("%d sentences: %q", n, errs)
			}
		})
	}
}

// TestRunPulls: a missing image is asked for with the credential of its registry; before that neither
// configuration nor helper was touched.
func TestRunPulls(t *testing.T) {
	dir := t.TempDir()
	auth := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	if err := os.WriteFile(dir+"/config.json", []byte(`{"auths":{"r.example:5000":{"auth":"`+auth+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var policies []string
	host := engineOf(t, func(c *conversation) {
		policies = append(policies, c.request.Pull)
		if c.request.Pull == "never" {
			if c.request.Auth != "" {
				t.Error("a credential was looked for before it was needed")
			}
			c.exit(wire.RunExitBody{Code: 125, Error: "No such image", ImageMissing: true})
			return
		}
		b, err := base64.URLEncoding.DecodeString(c.request.Auth)
		if err != nil || !strings.Contains(string(b), `"password":"secret"`) {
			t.Errorf("%q, %v", b, err)
		}
		c.send(wire.RunProgress, `{"status":"Pulling from a","id":"latest"}`)
		c.send(wire.RunProgress, `{"status":"Pull complete","id":"aaaa"}`)
		c.created()
		c.send(wire.RunStarted, "")
		c.send(wire.RunStdout, "hello")
		c.exit(wire.RunExitBody{})
	}, nil)
	out, errs, code := berth(t, host, "", "--config", dir, "run", "r.example:5000/a")
	if out != "hello" || code != 0 || strings.Join(policies, " ") != "never missing" {
		t.Errorf("%q, %d, %v", out, code, policies)
	}
	if want := "Unable to find image 'r.example:5000/a:latest' locally\nlatest: Pulling from a\naaaa: Pull complete\n"; errs != want {
		t.Errorf("%q", errs)
	}
	out, errs, code = berth(t, host, "", "--config", dir, "run", "-q", "--pull", "always", "r.example:5000/a")
	if out != "hello" || errs != "" || code != 0 {
		t.Errorf("quietly: %q, %q, %d", out, errs, code)
	}
}

func TestRunStdin(t *testing.T) {
	host := engineOf(t, func(c *conversation) {
		if !c.request.Stdin || !c.create.StdinOnce {
			t.Errorf("%+v", c.request)
		}
		c.created()
		c.send(wire.RunStarted, "")
		var in strings.Builder
		for {
			kind, payload := c.next()
			if kind == wire.RunStdinEnd {
				break
			}
			if kind != wire.RunStdin {
				t.Errorf("frame %d %s", kind, payload)
				break
			}
			in.WriteString(payload)
		}
		c.send(wire.RunStdout, fmt.Sprintf("%d bytes", in.Len()))
		c.exit(wire.RunExitBody{})
	}, nil)
	out, errs, code := berth(t, host, strings.Repeat("x", 300_000), "run", "-i", "debian", "cat")
	if out != "300000 bytes" || errs != "" || code != 0 {
		t.Errorf("%q, %q, %d", out, errs, code)
	}
}

func TestRunDetached(t *testing.T) {
	host := engineOf(t, func(c *conversation) {
		if !c.request.Detach || c.request.Stdin || c.request.Stdout || c.create.AttachStdout {
			t.Errorf("%+v", c.request)
		}
		c.created()
		c.send(wire.RunStarted, "")
		c.exit(wire.RunExitBody{})
	}, nil)
	cid := filepath.Join(t.TempDir(), "cid")
	out, errs, code := berth(t, host, "", "run", "-d", "-i", "--cidfile", cid, "debian")
	if out != "0123456789abcdef\n" || errs != "" || code != 0 {
		t.Errorf("%q, %q, %d", out, errs, code)
	}
	if id, err := os.ReadFile(cid); err != nil || string(id) != "0123456789abcdef" {
		t.Errorf("%q, %v", id, err)
	}
	if _, errs, code = berth(t, host, "", "run", "-d", "--cidfile", cid, "debian"); code != 125 || !strings.Contains(errs, cid) {
		t.Errorf("a second time: %q, %d", errs, code)
	}
}

func TestCIDFileGoesWithTheFailure(t *testing.T) {
	host := engineOf(t, func(c *conversation) { c.exit(wire.RunExitBody{Code: 125, Error: "no"}) }, nil)
	cid := filepath.Join(t.TempDir(), "cid")
	if _, _, code := berth(t, host, "", "run", "--cidfile", cid, "debian"); code != 125 {
		t.Error(code)
	}
	if _, err := os.Stat(cid); err == nil {
		t.Error("the file is there although there is no container")
	}
}

// process starts this test binary as the command line.
func process(host string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "BERTH_TEST_BE_BERTH=1", "BERTH_HOST="+host, "DOCKER_CONFIG=/does/not/exist")
	return cmd
}

// TestRunSignals: a signal arrives although nobody reads the input.
func TestRunSignals(t *testing.T) {
	killed := make(chan string, 1)
	running := make(chan struct{})
	host := engineOf(t, func(c *conversation) {
		c.created()
		c.send(wire.RunStarted, "")
		c.next() // one frame of the input; whoever sends it is ready for signals
		close(running)
		select {
		case sig := <-killed:
			c.send(wire.RunStdout, "got "+sig)
			c.exit(wire.RunExitBody{Code: 128 + 15})
		case <-time.After(time.Minute):
			t.Error("no signal came")
		}
	}, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/containers/0123456789abcdef/kill") {
			killed <- r.URL.Query().Get("signal")
			w.WriteHeader(http.StatusNoContent)
		}
	})
	cmd := process(host, "run", "-i", "debian")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout = endless{}, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-running
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the copying of endless ends with an error, too
	if code := cmd.ProcessState.ExitCode(); code != 143 || out.String() != "got 15" {
		t.Errorf("%d, %q", code, out.String())
	}
}

// TestRunOfADeafContainer: one that takes no notice of signals does not hold the user.
func TestRunOfADeafContainer(t *testing.T) {
	running, over := make(chan struct{}), make(chan struct{})
	defer close(over)
	host := engineOf(t, func(c *conversation) {
		c.created()
		c.send(wire.RunStarted, "")
		c.next()
		close(running)
		<-over
	}, func(http.ResponseWriter, *http.Request) { <-over }) // not even the engine answers
	cmd := process(host, "run", "-i", "debian")
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = endless{}, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-running
	for range patience { // signals of one kind become one while they wait
		for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	tick, late := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		case <-tick.C:
			_ = cmd.Process.Signal(syscall.SIGINT)
		case <-late:
			t.Error("it still runs")
			_ = cmd.Process.Kill()
			<-done
			return
		}
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(errs.String(), "got 3 SIGTERM/SIGINTs") {
		t.Errorf("%d, %q", code, errs.String())
	}
}

// TestRunSignalsWithATerminalForOutputOnly: the terminal is not raw, so ctrl-c is a signal, and the container's.
func TestRunSignalsWithATerminalForOutputOnly(t *testing.T) {
	killed := make(chan string, 1)
	running := make(chan struct{})
	host := engineOf(t, func(c *conversation) {
		c.created()
		c.send(wire.RunStarted, "")
		c.send(wire.RunStdout, "ready")
		close(running)
		c.send(wire.RunStdout, "got "+<-killed)
		c.exit(wire.RunExitBody{Code: 7})
	}, func(w http.ResponseWriter, r *http.Request) {
		killed <- r.URL.Query().Get("signal")
		w.WriteHeader(http.StatusNoContent)
	})
	cmd := process(host, "run", "-t", "debian")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-running
	ready := make([]byte, len("ready"))
	if _, err := io.ReadFull(out, ready); err != nil { // signals are passed on before the output is
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(out)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 || string(rest) != "got 2" {
		t.Errorf("%d, %q", code, rest)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// waitUntil polls: there is nothing to wait on in another process's state.
func waitUntil(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to that in a minute")
		}
	}
}

// pty opens a pseudo terminal: what the user has, and what the program gets.
func pty(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs pseudo terminals: ", err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return user, tty
}

func setSize(t *testing.T, f *os.File, height, width uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}); err != nil {
		t.Fatal(err)
	}
}

// isRaw tells whether the terminal gives keys to the program one by one.
func isRaw(t *testing.T, f *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ICANON == 0
}

// onTerminal starts the command line in a session with a terminal of its own, 24 lines of 80.
func onTerminal(t *testing.T, host string, args ...string) (cmd *exec.Cmd, user, tty *os.File) {
	t.Helper()
	user, tty = pty(t)
	setSize(t, tty, 24, 80)
	cmd = process(host, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, user, tty
}

// TestRunOnATerminal: its size comes before the start and again when it changes, keys come one by one,
// and it is as before when the container ends.
func TestRunOnATerminal(t *testing.T) {
	type step struct {
		kind    frame.Kind
		payload string
	}
	steps := make(chan step)
	finish := make(chan struct{})
	host := engineOf(t, func(c *conversation) {
		if c.request.Size == nil || *c.request.Size != (wire.Size{Height: 24, Width: 80}) || c.create.HostConfig.ConsoleSize != [2]uint{24, 80} {
			t.Errorf("%+v", c.request.Size)
		}
		c.created()
		c.send(wire.RunStarted, "")
		go func() {
			defer close(steps)
			for {
				kind, payload := c.next()
				if kind == 0 {
					return
				}
				steps <- step{kind, payload}
			}
		}()
		<-finish
		c.exit(wire.RunExitBody{Code: 3})
		for range steps {
		}
	}, nil)
	cmd, user, tty := onTerminal(t, host, "run", "-it", "debian")
	waitUntil(t, func() bool { return isRaw(t, tty) })
	if s := <-steps; s.kind != wire.RunResize || s.payload != `{"Height":24,"Width":80}` {
		t.Errorf("%+v", s)
	}
	if _, err := user.WriteString("a\x03"); err != nil { // ctrl-c belongs to the container
		t.Fatal(err)
	}
	keys := ""
	for keys != "a\x03" {
		s := <-steps
		if s.kind != wire.RunStdin {
			t.Fatalf("%+v", s)
		}
		keys += s.payload
	}
	setSize(t, tty, 30, 100)
	if s := <-steps; s.kind != wire.RunResize || s.payload != `{"Height":30,"Width":100}` {
		t.Errorf("%+v", s)
	}
	close(finish)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Error(code)
	}
	if isRaw(t, tty) {
		t.Error("the terminal was left raw")
	}
}

func TestRunDetachKeys(t *testing.T) {
	var kinds []frame.Kind
	over := make(chan struct{})
	host := engineOf(t, func(c *conversation) {
		defer close(over)
		c.created()
		c.send(wire.RunStarted, "")
		for {
			kind, _ := c.next()
			if kind == 0 {
				return
			}
			kinds = append(kinds, kind)
		}
	}, nil)
	cmd, user, tty := onTerminal(t, host, "run", "-it", "--detach-keys", "ctrl-a,d", "debian")
	waitUntil(t, func() bool { return isRaw(t, tty) })
	if _, err := user.WriteString("x\x01d"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	<-over
	if code := cmd.ProcessState.ExitCode(); code != 0 || len(kinds) == 0 || kinds[len(kinds)-1] != wire.RunDetach {
		t.Errorf("%d, %v", code, kinds)
	}
	if isRaw(t, tty) {
		t.Error("the terminal was left raw")
	}
}

// TestTerminalAfterASignal: whoever ends the command line does not end the user's terminal.
func TestTerminalAfterASignal(t *testing.T) {
	host := engineOf(t, func(c *conversation) {
		c.created()
		c.send(wire.RunStarted, "")
		for kind := frame.Kind(1); kind != 0; {
			kind, _ = c.next()
		}
	}, nil)
	cmd, _, tty := onTerminal(t, host, "run", "-it", "debian")
	waitUntil(t, func() bool { return isRaw(t, tty) })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 143 {
		t.Error(code)
	}
	if isRaw(t, tty) {
		t.Error("the terminal was left raw")
	}
}

// TestRunOnDocker: an engine without Berth's own endpoint is spoken to as Docker's client does it.
func TestRunOnDocker(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	started := make(chan struct{})
	host := engineOf(t, nil, func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/v"+client.APIVersion)
		mu.Lock()
		seen = append(seen, r.Method+" "+path)
		mu.Unlock()
		switch path {
		case "/containers/create":
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"Id":"abc"}`)
		case "/containers/abc/attach":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
			<-started
			_, _ = conn.Write([]byte("\x01\x00\x00\x00\x00\x00\x00\x03out\x02\x00\x00\x00\x00\x00\x00\x03err"))
		case "/containers/abc/wait":
			if r.URL.Query().Get("condition") != "removed" {
				t.Error(r.URL.RawQuery)
			}
			w.(http.Flusher).Flush()
			<-started
			_, _ = io.WriteString(w, `{"StatusCode":5}`)
		case "/containers/abc/start":
			close(started)
			w.WriteHeader(http.StatusNoContent)
		default:
			http.Error(w, "not here", http.StatusNotFound)
		}
	})
	out, errs, code := berth(t, host, "", "run", "--rm", "debian", "x")
	if out != "out" || errs != "err" || code != 5 {
		t.Errorf("%q, %q, %d", out, errs, code)
	}
	if got := strings.Join(seen, ", "); got != "POST "+wire.RunPath+", POST /containers/create, POST /containers/abc/attach, POST /containers/abc/wait, POST /containers/abc/start" {
		t.Error(got)
	}
}

// TestAttachDrawsAnew: the terminal gets another size before its own, so that the program shows again what it has.
func TestAttachDrawsAnew(t *testing.T) {
	var sizes []string
	sized := make(chan struct{})
	host := engineOf(t, nil, func(w http.ResponseWriter, r *http.Request) {
		switch strings.TrimPrefix(r.URL.Path, "/v"+client.APIVersion) {
		case "/containers/abc/json":
			_, _ = io.WriteString(w, `{"Id":"abc","State":{"Running":true},"Config":{"Tty":true,"OpenStdin":true},"HostConfig":{}}`)
		case "/containers/abc/attach":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
			<-sized
		case "/containers/abc/wait":
			w.(http.Flusher).Flush()
			<-sized
			_, _ = io.WriteString(w, `{"StatusCode":0}`)
		case "/containers/abc/resize": // one after the other
			if sizes = append(sizes, r.URL.Query().Get("h")+"x"+r.URL.Query().Get("w")); len(sizes) == 2 {
				close(sized)
			}
		default:
			http.Error(w, "not here", http.StatusNotFound)
		}
	})
	cmd, user, _ := onTerminal(t, host, "attach", "abc")
	go func() { _, _ = io.Copy(io.Discard, user) }() // ends with the terminal
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(sizes, " "); got != "25x81 24x80" {
		t.Error(got)
	}
}
