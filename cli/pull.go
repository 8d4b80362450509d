package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
)

type pullOptions struct {
	all, quiet bool
	platform   string
	out        io.Writer // for the report
}

func setupPull(a *App, c *cobra.Command) {
	o := pullOptions{out: a.Out}
	c.Use = "pull [OPTIONS] NAME[:TAG|@DIGEST]"
	c.Example = "berth pull debian:stable"
	c.Args = nArgs(1, 1)
	fs := c.Flags()
	fs.BoolVarP(&o.all, "all-tags", "a", false, "Download all tagged images in the repository")
	contentTrust(fs)
	fs.StringVar(&o.platform, "platform", "", "Set platform if server is multi-platform capable")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress verbose output")
	c.RunE = func(c *cobra.Command, args []string) error {
		_, tag, digest := splitTag(args[0])
		if o.all && (tag != "" || digest != "") {
			return errors.New("a tag cannot be used with --all-tags/-a")
		}
		if !o.all && tag == "" && digest == "" && !o.quiet {
			a.printf("Using default tag: latest\n")
		}
		if err := a.pull(c.Context(), o, args[0]); err != nil {
			return err
		}
		name := canonical(args[0])
		if o.all {
			name, _, _ = splitTag(name)
		}
		a.printf("%s\n", name)
		return nil
	}
}

// pull downloads an image and shows the engine's report.
func (a *App) pull(ctx context.Context, o pullOptions, ref string) error {
	name, tag, digest := splitTag(ref)
	q := url.Values{"fromImage": {name}}
	switch {
	case digest != "":
		q.Set("tag", digest)
	case tag != "":
		q.Set("tag", tag)
	case !o.all:
		q.Set("tag", "latest")
	}
	if o.platform != "" {
		q.Set("platform", o.platform)
	}
	auth, err := a.registryAuth(ref)
	if err != nil {
		return err
	}
	engine, err := a.client()
	if err != nil {
		return err
	}
	return a.followReport(ctx, engine, client.Request{Method: "POST", Path: "/images/create", Query: q, Header: authHeader(auth)}, o.out, o.quiet, nil)
}

func authHeader(auth string) map[string]string {
	if auth == "" {
		return nil
	}
	return map[string]string{"X-Registry-Auth": auth}
}

// followReport makes a request whose answer is a report of progress, and shows it. aux, which may be nil, gets
// what it carries for programs.
func (a *App) followReport(ctx context.Context, engine *client.Client, req client.Request, out io.Writer, quiet bool, aux func(json.RawMessage)) error {
	resp, err := engine.Do(ctx, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	report := a.progressTo(out, quiet)
	report.Aux = aux
	return report.Copy(resp.Body)
}

type pushOptions struct {
	all, quiet bool
	platform   string
}

func setupPush(a *App, c *cobra.Command) {
	var o pushOptions
	c.Use = "push [OPTIONS] NAME[:TAG]"
	c.Example = "berth push registry.example.com/web:1.2"
	c.Args = nArgs(1, 1)
	fs := c.Flags()
	fs.BoolVarP(&o.all, "all-tags", "a", false, "Push all tags of an image to the repository")
	contentTrust(fs)
	fs.StringVar(&o.platform, "platform", "", `Push a platform-specific manifest as a single-platform image to the registry. 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)`)
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress verbose output")
	c.RunE = func(c *cobra.Command, args []string) error { return a.push(c.Context(), o, args[0]) }
}

func (a *App) push(ctx context.Context, o pushOptions, ref string) error {
	name, tag, digest := splitTag(ref)
	switch {
	case digest != "":
		return errors.New("cannot push a digest reference")
	case o.all && tag != "":
		return errors.New("a tag cannot be used with --all-tags/-a")
	case !o.all && tag == "":
		tag = "latest"
		if !o.quiet {
			a.printf("Using default tag: latest\n")
		}
	}
	q, err := platformQuery("platform", o.platform)
	if err != nil {
		return err
	}
	if tag != "" {
		q.Set("tag", tag)
	}
	auth, err := a.registryAuth(ref)
	if err != nil {
		return err
	}
	if auth == "" {
		auth = "e30=" // {}: the header must be there
	}
	engine, err := a.client()
	if err != nil {
		return err
	}
	req := client.Request{Method: "POST", Path: client.ImagePath(name, "/push"), Query: q, Header: authHeader(auth)}
	var notes []string
	note := func(aux json.RawMessage) {
		if n := pushNote(aux); n != "" {
			notes = append(notes, n)
		}
	}
	if err := a.followReport(ctx, engine, req, a.Out, o.quiet, note); err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Fprintln(a.Err, n)
	}
	if o.quiet && !o.all {
		a.printf("%s\n", canonical(name+":"+tag))
	}
	return nil
}

// pushNote is a sentence where not the index was pushed that the image came by.
func pushNote(aux json.RawMessage) string {
	type descriptor struct {
		Digest string `json:"digest"`
	}
	var m struct {
		Instead  bool       `json:"manifestPushedInsteadOfIndex"`
		Index    descriptor `json:"originalIndex"`
		Manifest descriptor `json:"selectedManifest"`
	}
	if json.Unmarshal(aux, &m) != nil || !m.Instead {
		return ""
	}
	return fmt.Sprintf("Not everything that the index %s leads to is on this machine: only the image %s of one platform was pushed", m.Index.Digest, m.Manifest.Digest)
}

func errDigestTag(ref string) error {
	return fmt.Errorf("%s names an image by its digest: give it a tag instead", ref)
}

func setupTag(a *App, c *cobra.Command) {
	c.Use = "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]"
	c.Example = "berth tag web registry.example.com/web:1.2"
	c.Args = nArgs(2, 2)
	c.RunE = func(c *cobra.Command, args []string) error {
		repo, tag, digest := splitTag(args[1])
		if digest != "" {
			return errDigestTag(args[1])
		}
		engine, err := a.client()
		if err != nil {
			return err
		}
		if tag == "" {
			tag = "latest"
		}
		return engine.Call(c.Context(), "POST", client.ImagePath(args[0], "/tag"), url.Values{"repo": {repo}, "tag": {tag}}, nil, nil)
	}
}

func setupRmi(a *App, c *cobra.Command) {
	var force, noPrune bool
	var platforms []string
	c.Use = c.Name() + " [OPTIONS] IMAGE [IMAGE...]"
	c.Example = "berth rmi debian:stable"
	c.Args = nArgs(1, -1)
	fs := c.Flags()
	fs.BoolVarP(&force, "force", "f", false, "Force removal of the image")
	fs.BoolVar(&noPrune, "no-prune", false, "Do not delete untagged parents")
	fs.StringSliceVar(&platforms, "platform", nil, `Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		q, err := platformQuery("platforms", platforms...)
		if err != nil {
			return err
		}
		setFlag(q, "force", force)
		setFlag(q, "noprune", noPrune)
		failed := false
		for _, name := range args {
			deleted, err := engine.ImageRemove(c.Context(), name, q)
			if err != nil {
				if !force || !client.IsNotFound(err) {
					failed = true
				}
				a.report(err)
				continue
			}
			for _, d := range deleted {
				if d.Deleted != "" {
					a.printf("Deleted: %s\n", d.Deleted)
				} else {
					a.printf("Untagged: %s\n", d.Untagged)
				}
			}
		}
		if failed {
			return exitCode(1)
		}
		return nil
	}
}
