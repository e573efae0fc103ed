package poolservice

import (
	"context"
	"iter"
	"math"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// List returns the servers of all pages, ordered by model.
func (c *Client) List(ctx context.Context) ([]Server, error) {
	var servers []Server
	for page, err := range c.Pages(ctx, 0) {
		if err != nil {
			return nil, err
		}
		servers = append(servers, page.Servers...)
	}
	return servers, nil
}

// Pages yields the pages of the list one by one, at least one. An error is the last pair. pageSize
// is the maximum number of servers on a page; with 0 the service chooses.
func (c *Client) Pages(ctx context.Context, pageSize int) iter.Seq2[Page, error] {
	size := int32(min(max(pageSize, math.MinInt32), math.MaxInt32))
	return func(yield func(Page, error) bool) {
		paging := c.paging()
		for more := true; more; {
			request := &pb.ListRequest{PageSize: size, PageToken: paging.token}
			response, err := invoke(ctx, c, c.stub.List, request)
			if err != nil {
				yield(Page{}, err)
				return
			}
			if !yield(pageOf(response), nil) {
				return
			}
			if more, err = paging.turn(response.GetNextPageToken()); err != nil {
				yield(Page{}, err)
				return
			}
		}
	}
}

// Models returns the models that the service's configuration lists, ordered by model; WithFound
// adds models that are on its disk, run, or were named before.
func (c *Client) Models(ctx context.Context, options ...ModelsOption) ([]Model, error) {
	var settings settings
	for _, option := range options {
		option.forModels(&settings)
	}
	var models []Model
	paging := c.paging()
	for more := true; more; {
		response, err := invoke(ctx, c, c.stub.ListModels, &pb.ListModelsRequest{
			PageToken: paging.token, Found: settings.found})
		if err != nil {
			return nil, err
		}
		models = append(models, each(response.GetModels(), modelOf)...)
		if more, err = paging.turn(response.GetNextPageToken()); err != nil {
			return nil, err
		}
	}
	return models, nil
}

const mostPages = 10_000

// paging goes through pages, whatever a server answers.
type paging struct {
	client *Client
	token  string // of the page to ask for
	seen   map[string]struct{}
}

func (c *Client) paging() *paging {
	return &paging{client: c, seen: map[string]struct{}{}}
}

// turn goes on to the page that the last one named; false if there is none. It fails if that page
// was read before, or if there are too many pages.
func (p *paging) turn(token string) (bool, error) {
	if token == "" {
		return false, nil
	}
	if _, read := p.seen[token]; read || len(p.seen) == mostPages {
		return false, p.client.noPoolService("its pages have no end")
	}
	p.seen[token] = struct{}{}
	p.token = token
	return true, nil
}
