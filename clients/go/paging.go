package poolservice

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
