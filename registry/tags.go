package registry

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// What is read of a list of tags: a page, and all of them. Registries have repositories of some ten thousand.
const (
	maxTagsPage = 4 << 20 // bytes
	maxTags     = 1 << 20
)

// Tags lists the tags of ref's repository, in the registry's order, each once. Errors are as Pull's.
func (c *Client) Tags(ctx context.Context, ref reference.Named) ([]string, error) {
	var tags []string
	_, err := c.tryEndpoints(ctx, ref, func(r *repository) (err error) {
		tags, err = r.tags(ctx)
		return err
	})
	return tags, err
}

// tags goes from page to page (distribution-spec 1.1, "Listing Tags").
func (r *repository) tags(ctx context.Context) ([]string, error) {
	at, err := r.c.url(ctx, r.at, r.path+"/tags/list")
	if err != nil {
		return nil, err
	}
	var all []string
	seen, pages := map[string]bool{}, map[string]bool{}
	for at != nil {
		if pages[at.String()] {
			return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: its list of tags comes back to where it was", r.at.name)
		}
		pages[at.String()] = true
		page, next, err := r.tagsPage(ctx, at)
		if err != nil {
			return nil, err
		}
		for _, t := range page {
			if !seen[t] {
				seen[t] = true
				all = append(all, t)
			}
		}
		if len(all) > maxTags || len(pages) > maxTags {
			return nil, say(errdefs.ErrInvalidArgument, nil, "%s has more than %d tags: name those that are wanted", r.name.Name(), maxTags)
		}
		at = next
	}
	return all, nil
}

// tagsPage reads one page, and where the next one is; nil after the last.
func (r *repository) tagsPage(ctx context.Context, at *url.URL) ([]string, *url.URL, error) {
	resp, err := r.c.do(ctx, r.at, request{method: http.MethodGet, url: at, header: http.Header{"Accept": {"application/json"}}, scopes: r.scopes})
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTagsPage+1))
	if err != nil {
		return nil, nil, unreachable(r.at.name, err)
	}
	var page struct {
		Tags []string `json:"tags"` // may be null
	}
	if len(body) > maxTagsPage {
		return nil, nil, say(errdefs.ErrInvalidArgument, nil, "registry %s: a page of its list of tags has more than %d bytes", r.at.name, maxTagsPage)
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, nil, say(errdefs.ErrUnavailable, err, "registry %s sent something else than a list of tags: %v", r.at.name, err)
	}
	for _, t := range page.Tags {
		if _, err := reference.WithTag(reference.TrimNamed(r.name), t); err != nil {
			return nil, nil, say(errdefs.ErrInvalidArgument, err, "registry %s lists %.200q, which is no tag", r.at.name, t)
		}
	}
	next, err := r.nextPage(at, resp.Header)
	return page.Tags, next, err
}

// nextPage is what the answer's Link header says (RFC 8288), nil if nothing. Credentials would go there: it
// stays at the registry. Registries behind a proxy may believe that they are spoken to in plain HTTP.
func (r *repository) nextPage(at *url.URL, header http.Header) (*url.URL, error) {
	target := nextLink(header.Values("Link"))
	if target == "" {
		return nil, nil
	}
	next, err := at.Parse(target)
	if err != nil {
		return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: its list of tags goes on at %.200q, which is no URL", r.at.name, target)
	}
	next.Scheme = at.Scheme
	if next.Host != at.Host || next.User != nil {
		return nil, say(errdefs.ErrUnavailable, errPermanent, "registry %s: its list of tags goes on at another host, %.200s, which is refused", r.at.name, next.Host)
	}
	return next, nil
}

// nextLink finds the target of the link whose relation is "next".
func nextLink(headers []string) string {
	for _, h := range headers {
		for {
			before, rest, found := strings.Cut(h, "<")
			target, params, closed := strings.Cut(rest, ">")
			if !found || !closed || strings.Trim(before, ", \t") != "" {
				break
			}
			params, h = cutLink(params)
			for p := range strings.SplitSeq(params, ";") {
				key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
				rels := strings.Fields(strings.Trim(strings.TrimSpace(value), `"`))
				if strings.EqualFold(strings.TrimSpace(key), "rel") && slices.ContainsFunc(rels, func(s string) bool { return strings.EqualFold(s, "next") }) {
					return target
				}
			}
		}
	}
	return ""
}

// cutLink cuts a link's parameters from the links after it: at a comma outside of quotes.
func cutLink(s string) (params, rest string) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
