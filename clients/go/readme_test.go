package poolservice

import (
	"os"
	"strings"
	"testing"
)

func TestTheExampleOfTheReadmeIsTheOneThatIsBuilt(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("examples/ensure/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(readme), "```go\n")
	shown, _, found := strings.Cut(after, "```")
	if !found || !strings.Contains(string(example), shown) {
		t.Errorf("examples/ensure/main.go does not contain what the README shows:\n%s", shown)
	}
}
