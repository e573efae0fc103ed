// The conformance runner of the Go client: lines of JSON on stdin say what to call, lines on
// stdout what came of it. tests/conformance/README.md in the repository has the protocol.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
)

func main() {
	runner := newRunner(os.Stdout)
	if err := runner.run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(1)
	}
}

// output writes one line of JSON at a time.
type output struct {
	mutex  sync.Mutex
	writer io.Writer
}

func (o *output) line(value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("%#v is no JSON: %v", value, err))
	}
	o.mutex.Lock()
	defer o.mutex.Unlock()
	// Where nobody reads any longer, stdin ends too.
	_, _ = o.writer.Write(append(text, '\n'))
}

// run obeys each command, beside the others, until the input ends.
func (r *runner) run(input io.Reader) error {
	lines := bufio.NewReader(input)
	defer r.end()
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			if err := r.obey(line); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
