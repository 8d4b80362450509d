package cli

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/berth-engine/berth/api/wire"
	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/progress"
)

// buildFromStdin sends what stdin has (a tar, compressed or not, or a Dockerfile) to Docker's classic
// POST /build: there is no directory that the engine could ask for files.
func (a *App) buildFromStdin(ctx context.Context, o buildOptions, req wire.BuildRequest) (string, error) {
	switch {
	case o.dockerfile == "-":
		return "", errors.New("stdin cannot be both the context and the Dockerfile")
	case len(o.secrets) > 0 || len(o.contexts) > 0:
		return "", errors.New("--secret and --build-context want a directory as the context, not stdin")
	case a.inIsTerminal():
		return "", errors.New("a context does not come from a terminal: redirect stdin, or name a directory")
	}
	body, err := contextOf(bufio.NewReaderSize(a.In, 4096))
	if err != nil {
		return "", err
	}
	q, err := classicQuery(o, req)
	if err != nil {
		return "", err
	}
	auth, err := a.allCredentials()
	if err != nil {
		return "", err
	}
	engine, err := a.client()
	if err != nil {
		return "", err
	}
	resp, err := engine.Do(ctx, client.Request{Method: "POST", Path: "/build", Query: q, Body: body, Header: map[string]string{
		"Content-Type": "application/x-tar", "X-Registry-Config": auth,
	}})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var image string
	show := a.progressTo(a.Out, o.quiet)
	if o.quiet {
		show = progress.NewStream(nil, nil)
	}
	show.Aux = func(m json.RawMessage) {
		var aux struct{ ID string }
		if json.Unmarshal(m, &aux) == nil && aux.ID != "" {
			image = aux.ID
		}
	}
	if err := show.Copy(resp.Body); err != nil {
		return "", err
	}
	if image == "" {
		return "", errors.New("the engine did not say which image it built")
	}
	return image, nil
}

// contextOf tells a tar from a Dockerfile by its first bytes; a Dockerfile becomes a tar of itself.
func contextOf(in *bufio.Reader) (io.Reader, error) {
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("stdin could not be read: %w", err)
	}
	if len(head) == 0 {
		return nil, errors.New("stdin is empty: it should have the context or a Dockerfile")
	}
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} { // gzip, bzip2, xz, zstd
		if bytes.HasPrefix(head, []byte(magic)) {
			return in, nil
		}
	}
	if len(head) == 512 && bytes.HasPrefix(head[257:], []byte("ustar")) {
		return in, nil
	}
	const most = 16 << 20
	content, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fmt.Errorf("the Dockerfile could not be read from stdin: %w", err)
	}
	if len(content) > most {
		return nil, errors.New("stdin is neither a tar nor a Dockerfile of less than 16 MB")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o600, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	return &b, w.Close()
}

// classicQuery says what the flags say in the parameters of POST /build.
func classicQuery(o buildOptions, req wire.BuildRequest) (url.Values, error) {
	q := url.Values{"version": {"1"}, "rm": {"1"}, "t": req.Tags, "extrahosts": req.ExtraHosts}
	set := func(name, v string) {
		if v != "" {
			q.Set(name, v)
		}
	}
	set("dockerfile", o.dockerfile)
	set("target", req.Target)
	set("platform", req.Platform)
	set("networkmode", req.Network)
	set("cgroupparent", req.CgroupParent)
	setFlag(q, "nocache", req.NoCache)
	setFlag(q, "pull", req.Pull)
	if req.ShmSize > 0 {
		q.Set("shmsize", strconv.FormatInt(req.ShmSize, 10))
	}
	type limit struct {
		Name       string
		Soft, Hard int64
	}
	var limits []limit
	for _, v := range req.Ulimits {
		var l limit
		name, rest, _ := bytes.Cut([]byte(v), []byte("="))
		if _, err := fmt.Sscanf(string(rest), "%d:%d", &l.Soft, &l.Hard); err != nil {
			return nil, fmt.Errorf("--ulimit %s: %w", v, err)
		}
		l.Name = string(name)
		limits = append(limits, l)
	}
	for name, v := range map[string]any{"buildargs": req.BuildArgs, "labels": req.Labels, "ulimits": limits} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if s := string(b); s != "{}" && s != "null" {
			q.Set(name, s)
		}
	}
	return q, nil
}

// allCredentials is the header X-Registry-Config: the classic build cannot ask for single hosts.
func (a *App) allCredentials() (string, error) {
	f, err := a.configFile()
	if err != nil {
		return "", err
	}
	all, err := f.GetAllCredentials()
	if err != nil {
		return "", fmt.Errorf("the credentials of Docker's configuration: %w", err)
	}
	b, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	return base64.URLEncoding.EncodeToString(b), nil
}
