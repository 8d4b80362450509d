package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-engine/berth/cli/client"
	"github.com/berth-engine/berth/cli/format"
)

type imagesOptions struct {
	all, digests, noTrunc, quiet bool
	format                       string
	filters                      filters
}

const (
	imagesTable        = `{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}`
	imagesTableDigests = `{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}`
)

func setupImages(a *App, c *cobra.Command) {
	o := imagesOptions{filters: filters{}}
	c.Use = c.Name() + " [OPTIONS] [REPOSITORY[:TAG]]"
	c.Example = "berth images --filter dangling=true -q"
	c.Args = nArgs(0, 1)
	fs := c.Flags()
	fs.BoolVarP(&o.all, "all", "a", false, "Show all images (default hides intermediate images)")
	fs.BoolVar(&o.digests, "digests", false, "Show digests")
	filterFlag(fs, o.filters, filterUsage)
	fs.StringVar(&o.format, "format", "", formatUsage)
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Only show image IDs")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			o.filters.add("reference", args[0])
		}
		return a.images(c.Context(), o)
	}
}

func (a *App) images(ctx context.Context, o imagesOptions) error {
	q, err := o.filters.query()
	if err != nil {
		return err
	}
	if o.format == "" && !o.quiet {
		o.format = a.configuredFormat("imagesFormat")
	}
	setFlag(q, "all", o.all)
	engine, err := a.client()
	if err != nil {
		return err
	}
	list, err := engine.ImageList(ctx, q)
	if err != nil {
		return err
	}
	text, table := o.format, imagesTable
	if o.digests {
		table = imagesTableDigests
	}
	if o.quiet {
		text = "{{.ID}}"
	}
	withDigest := o.digests || format.Uses(text, "Digest")
	var rows []*imageRow
	for _, image := range list {
		rows = append(rows, imageRows(image, !o.noTrunc, withDigest, time.Now())...)
	}
	return format.List(a.Out, text, table, &imageRow{}, rows)
}

// imageRows are an image's lines: one a tag, and one a digest that has no tag (with digests: one a
// pair of both in a repository).
func imageRows(image client.ImageSummary, trunc, withDigest bool, now time.Time) []*imageRow {
	row := func(repo, tag, digest string) *imageRow {
		return &imageRow{image: image, trunc: trunc, now: now, repo: repo, tag: tag, digest: digest}
	}
	tags, digests := map[string][]string{}, map[string][]string{}
	var repos []string
	note := func(repo string) {
		if !slices.Contains(repos, repo) {
			repos = append(repos, repo)
		}
	}
	for _, ref := range image.RepoTags {
		if name, tag, _ := splitTag(ref); tag != "" && tag != "<none>" {
			name = familiar(name)
			note(name)
			tags[name] = append(tags[name], tag)
		}
	}
	for _, ref := range image.RepoDigests {
		if name, _, digest := splitTag(ref); digest != "" && name != "<none>" {
			name = familiar(name)
			note(name)
			digests[name] = append(digests[name], digest)
		}
	}
	var rows []*imageRow
	for _, repo := range repos {
		switch {
		case withDigest && len(digests[repo]) > 0:
			of := tags[repo]
			if len(of) == 0 {
				of = []string{"<none>"}
			}
			for _, tag := range of {
				for _, digest := range digests[repo] {
					rows = append(rows, row(repo, tag, digest))
				}
			}
		case len(tags[repo]) == 0:
			rows = append(rows, row(repo, "<none>", "<none>"))
		default:
			for _, tag := range tags[repo] {
				rows = append(rows, row(repo, tag, "<none>"))
			}
		}
	}
	if len(rows) == 0 {
		rows = append(rows, row("<none>", "<none>", "<none>"))
	}
	return rows
}

// imageRow is an image under one of its names.
type imageRow struct {
	image             client.ImageSummary
	trunc             bool
	now               time.Time
	repo, tag, digest string
}

// Columns are Docker's.
func (r *imageRow) Columns() format.Header {
	return format.Header{
		"ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
		"Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
	}
}

func (r *imageRow) ID() string {
	if r.trunc {
		return format.ShortID(r.image.ID)
	}
	return r.image.ID
}

func (r *imageRow) Repository() string { return r.repo }
func (r *imageRow) Tag() string        { return r.tag }
func (r *imageRow) Digest() string     { return r.digest }

func (r *imageRow) CreatedSince() string {
	if t := time.Unix(r.image.Created, 0); r.image.Created > 0 {
		return format.Ago(t, r.now)
	}
	return ""
}

func (r *imageRow) CreatedAt() string { return time.Unix(r.image.Created, 0).String() }
func (r *imageRow) Size() string      { return format.Size(r.image.Size) }

func (r *imageRow) Containers() string {
	if r.image.Containers < 0 {
		return "N/A"
	}
	return strconv.FormatInt(r.image.Containers, 10)
}

// VirtualSize is Size, under its old name.
func (r *imageRow) VirtualSize() string { return shortSize(r.image.Size) }

func (r *imageRow) SharedSize() string {
	if r.image.SharedSize < 0 {
		return "N/A"
	}
	return shortSize(r.image.SharedSize)
}

func (r *imageRow) UniqueSize() string {
	if r.image.SharedSize < 0 {
		return "N/A"
	}
	return shortSize(r.image.Size - r.image.SharedSize)
}

type historyRow struct {
	item         client.HistoryItem
	trunc, human bool
	now          time.Time
}

func setupHistory(a *App, c *cobra.Command) {
	var noTrunc, quiet bool
	human := true
	var text, platform string
	c.Use = "history [OPTIONS] IMAGE"
	c.Example = "berth history debian"
	c.Args = nArgs(1, 1)
	fs := c.Flags()
	fs.StringVar(&text, "format", "", formatUsage)
	fs.BoolVarP(&human, "human", "H", true, "Print sizes and dates in human readable format")
	fs.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	fs.StringVar(&platform, "platform", "", `Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	fs.BoolVarP(&quiet, "quiet", "q", false, "Only show image IDs")
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := a.client()
		if err != nil {
			return err
		}
		q, err := platformQuery("platform", platform)
		if err != nil {
			return err
		}
		items, err := engine.ImageHistory(c.Context(), args[0], q)
		if err != nil {
			return err
		}
		table := `{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
		if !human {
			table = `{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
		}
		if quiet {
			text = "{{.ID}}"
		}
		rows := make([]*historyRow, len(items))
		for i, item := range items {
			rows[i] = &historyRow{item: item, trunc: !noTrunc, human: human, now: time.Now()}
		}
		return format.List(a.Out, text, table, &historyRow{}, rows)
	}
}

// Columns are Docker's.
func (r *historyRow) Columns() format.Header {
	return format.Header{
		"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
	}
}

func (r *historyRow) ID() string {
	if r.trunc {
		return format.ShortID(r.item.ID)
	}
	return r.item.ID
}

func (r *historyRow) CreatedAt() string {
	if r.item.Created <= 0 {
		return "N/A"
	}
	return time.Unix(r.item.Created, 0).Format(time.RFC3339)
}

func (r *historyRow) CreatedSince() string {
	if !r.human {
		return r.CreatedAt()
	}
	if r.item.Created <= 0 {
		return "N/A"
	}
	return format.Ago(time.Unix(r.item.Created, 0), r.now)
}

func (r *historyRow) CreatedBy() string {
	by := strings.ReplaceAll(r.item.CreatedBy, "\t", " ")
	if r.trunc {
		by = format.Ellipsis(by, 45)
	}
	return by
}

func (r *historyRow) Size() string {
	if r.human {
		return format.Size(r.item.Size)
	}
	return strconv.FormatInt(r.item.Size, 10)
}

func (r *historyRow) Comment() string { return r.item.Comment }
