package poolservice

import (
	"os"
	"strings"
	"testing"
)

func TestTheProgramsOfTheReadmeAreTheExamplesThatAreBuilt(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"examples/ensure/main.go", "examples/engine/main.go"} {
		example, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !showsTheEndOf(string(example), string(readme)) {
			t.Errorf("no block of the README ends as %s does, from its main function on", path)
		}
	}
}

// showsTheEndOf reports whether a block of the text has all of a program, at least from its main
// function on.
func showsTheEndOf(program, text string) bool {
	_, end, _ := strings.Cut(program, "\nfunc main() {")
	for block := range strings.SplitSeq(text, "```go\n") {
		block, _, _ = strings.Cut(block, "```")
		if strings.Contains(block, "func main() {"+end) && strings.HasSuffix(program, block) {
			return true
		}
	}
	return false
}
