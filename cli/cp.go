package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/format"
	"github.com/berth-engine/berth/cli/localtar"
	"github.com/berth-engine/berth/cli/progress"
)

type cpOptions struct{ archive, followLink, quiet bool }

func setupCp(a *App, c *cobra.Command) {
	var o cpOptions
	c.Use = "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t" + c.CommandPath() + " [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH"
	c.Example = "berth cp web:/etc/hostname ."
	c.Args = nArgs(2, 2)
	fs := c.Flags()
	fs.BoolVarP(&o.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	fs.BoolVarP(&o.followLink, "follow-link", "L", false, "Always follow symlinks in SRC_PATH")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !c.Flags().Changed("quiet") {
			o.quiet = !a.errIsTerminal()
		}
		return a.cp(c.Context(), o, args[0], args[1])
	}
}

func (a *App) cp(ctx context.Context, o cpOptions, source, dest string) error {
	if source == "" || dest == "" {
		return errors.New("source and destination cannot be empty")
	}
	from, sourcePath := splitCopy(source)
	to, destPath := splitCopy(dest)
	engine, err := a.client()
	if err != nil {
		return err
	}
	switch {
	case from != "" && to != "":
		return errors.New("copying from one container to another is not supported: copy to this machine first")
	case from != "":
		return a.copyFrom(ctx, engine, o, from, sourcePath, destPath)
	case to != "":
		return a.copyTo(ctx, engine, o, sourcePath, to, destPath)
	}
	return errors.New("source or destination must be in a container (CONTAINER:PATH)")
}

// splitCopy parts CONTAINER:PATH. What begins with a slash or a dot is a path of this machine.
func splitCopy(v string) (container, p string) {
	container, p, ok := strings.Cut(v, ":")
	if !ok || strings.HasPrefix(v, ".") || strings.HasPrefix(v, "/") {
		return "", v
	}
	return container, p
}

// pathStat is what the engine says of a path in a container.
type pathStat struct {
	Name       string      `json:"name"`
	Size       int64       `json:"size"`
	Mode       fs.FileMode `json:"mode"`
	LinkTarget string      `json:"linkTarget"`
}

func decodeStat(resp *client.Response) (pathStat, error) {
	var st pathStat
	b, err := base64.StdEncoding.DecodeString(resp.Header.Get("X-Docker-Container-Path-Stat"))
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		return st, fmt.Errorf("what the engine says of the path could not be read: %w", err)
	}
	return st, nil
}

func archiveRequest(method, container, p string) client.Request {
	return client.Request{Method: method, Path: containerPath(container) + "/archive", Query: url.Values{"path": {p}}}
}

func statPath(ctx context.Context, engine *client.Client, container, p string) (pathStat, error) {
	resp, err := engine.Do(ctx, archiveRequest("HEAD", container, p))
	if err != nil {
		return pathStat{}, err
	}
	defer resp.Body.Close()
	return decodeStat(resp)
}

// followed is p, or where it points when it is a link. A relative target is one of p's directory.
func followed(p string, st pathStat) string {
	if st.Mode&fs.ModeSymlink == 0 {
		return p
	}
	if path.IsAbs(st.LinkTarget) {
		return st.LinkTarget
	}
	return path.Join(path.Dir(strings.TrimRight(p, "/")), st.LinkTarget)
}

func (a *App) copyFrom(ctx context.Context, engine *client.Client, o cpOptions, container, source, dest string) error {
	if source == "" {
		source = "/"
	}
	name := lastName(source) // what the copy is called
	if o.followLink {
		if st, err := statPath(ctx, engine, container, source); err == nil {
			source = followed(source, st)
		}
	}
	resp, err := engine.Do(ctx, archiveRequest("GET", container, source))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if dest == "-" {
		if a.outIsTerminal() {
			return errors.New("a tar archive is not for a terminal: redirect stdout")
		}
		_, err := io.Copy(a.Out, resp.Body)
		return err
	}
	st, err := decodeStat(resp)
	if err != nil {
		return err
	}
	dir, as, err := localTarget(dest, st.Mode.IsDir(), name)
	if err != nil {
		return err
	}
	meter := progress.NewMeter(a.progressOut(!o.quiet), "Copied", 0)
	n, err := localtar.Extract(meter.Reader(resp.Body), dir, lastName(source), as)
	meter.Close()
	if err == nil && !o.quiet {
		fmt.Fprintf(a.Err, "Successfully copied %s to %s\n", format.Size(n), dest)
	}
	return err
}

// lastName is the first component of the archive's entries for a path; "." where the path ends in
// one: then the entries have none of their own.
func lastName(p string) string {
	if strings.HasSuffix(p, "/.") || p == "." {
		return ""
	}
	name := path.Base(path.Clean("/" + p))
	if name == "/" {
		return ""
	}
	return name
}

// localTarget says where an archive is unpacked and what its first component becomes, by the rules of
// `docker cp`: into a directory that is there, under a new name otherwise.
func localTarget(dest string, sourceIsDir bool, name string) (dir, as string, err error) {
	if dest, err = linkEnd(dest); err != nil {
		return "", "", err
	}
	wantsDir := strings.HasSuffix(dest, "/") || dest == "." || strings.HasSuffix(dest, "/.")
	info, err := os.Stat(dest)
	switch {
	case err == nil && info.IsDir():
		return dest, name, nil
	case err == nil && sourceIsDir:
		return "", "", fmt.Errorf("cannot copy a directory to %s: it is a file", dest)
	case err == nil && wantsDir:
		return "", "", fmt.Errorf("%s is not a directory", dest)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", "", err
	case err != nil && wantsDir && !sourceIsDir:
		return "", "", fmt.Errorf("the directory %s is not there", dest)
	}
	if dest, err = filepath.Abs(dest); err != nil {
		return "", "", err
	}
	return filepath.Dir(dest), filepath.Base(dest), nil
}

// linkEnd follows a link at the end of a path, also to where nothing is yet.
func linkEnd(p string) (string, error) {
	const most = 40 // path_resolution(7): the kernel's own limit
	for range most {
		if strings.HasSuffix(p, "/") {
			return p, nil // the kernel follows
		}
		target, err := os.Readlink(p)
		if err != nil {
			return p, nil // no link, or nothing
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(p), target)
		}
		p = target
	}
	return "", fmt.Errorf("%s: too many links", p)
}

func (a *App) copyTo(ctx context.Context, engine *client.Client, o cpOptions, source, container, dest string) error {
	target, isDir, there := dest, false, false
	if st, err := statPath(ctx, engine, container, dest); err == nil {
		target = followed(dest, st)
		if target != dest {
			st, err = statPath(ctx, engine, container, target)
		}
		if there = err == nil; there {
			isDir = st.Mode.IsDir()
			if st.Mode&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
				return fmt.Errorf("%s:%s is neither a file nor a directory", container, dest)
			}
		}
	} else if !client.IsNotFound(err) {
		isDir = true // the answer to a HEAD has no reason in it: that to what follows has
	}
	q := url.Values{"noOverwriteDirNonDir": {"true"}}
	if o.archive {
		q.Set("copyUIDGID", "true")
	}
	req := client.Request{Method: "PUT", Path: containerPath(container) + "/archive", Query: q}
	if source == "-" {
		if !isDir {
			return fmt.Errorf("%s:%s must be a directory to unpack an archive into", container, dest)
		}
		q.Set("path", target)
		req.Body = a.In
		return putArchive(ctx, engine, req)
	}
	file, name, err := localSource(source, o.followLink)
	if err != nil {
		return err
	}
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	switch {
	case isDir:
		q.Set("path", target)
	case there && info.IsDir():
		return fmt.Errorf("cannot copy a directory to %s:%s: it is a file", container, dest)
	case !there && !info.IsDir() && strings.HasSuffix(dest, "/"):
		return fmt.Errorf("the directory %s:%s is not there", container, dest)
	default:
		q.Set("path", path.Dir(strings.TrimRight(target, "/")))
		name = path.Base(target)
	}
	return a.sendTree(ctx, engine, o, req, file, name, container+":"+dest)
}

// localSource is the file to copy, and what it is called there. A link that is named with a slash
// behind it is followed.
func localSource(source string, follow bool) (file, name string, err error) {
	contents := strings.HasSuffix(source, "/.") || source == "."
	if name = filepath.Base(source); contents {
		name = "."
	}
	if follow || contents || strings.HasSuffix(source, "/") {
		file, err = filepath.EvalSymlinks(source)
	} else {
		file, err = filepath.Abs(source)
	}
	if err != nil {
		return "", "", err
	}
	if name == ".." || name == "/" {
		if file, err = filepath.Abs(source); err != nil {
			return "", "", err
		}
		if name = filepath.Base(file); name == "/" {
			name = "."
		}
	}
	return file, name, nil
}

func (a *App) sendTree(ctx context.Context, engine *client.Client, o cpOptions, req client.Request, file, name, dest string) error {
	r, w := io.Pipe()
	over := make(chan struct{})
	go func() {
		defer close(over)
		w.CloseWithError(localtar.Write(w, file, name))
	}()
	meter := progress.NewMeter(a.progressOut(!o.quiet), "Copied", 0)
	req.Body = meter.Reader(r)
	err := putArchive(ctx, engine, req)
	r.Close() // an engine that wants no more leaves the writer waiting
	<-over
	meter.Close()
	if err == nil && !o.quiet {
		fmt.Fprintf(a.Err, "Successfully copied %s to %s\n", format.Size(meter.Done()), dest)
	}
	return err
}

func putArchive(ctx context.Context, engine *client.Client, req client.Request) error {
	resp, err := engine.Do(ctx, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
