package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/secret"
)

// HASH-16, LOG-04: no way of printing or encoding shows the value.
func TestText_isNeverPrinted(t *testing.T) {
	const canary = "canary-Zx81-Spectrum"
	request := struct {
		Username string
		Password secret.Text
		Pointer  *secret.Text
	}{Username: "alex", Password: secret.New(canary)}
	pointer := secret.New(canary)
	request.Pointer = &pointer

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+verb, request, request.Password)
	}
	encoded, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "request", request, "password", request.Password)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "request", request, "password", request.Password)

	printed := out.String()
	if strings.Contains(printed, canary) || strings.Contains(printed, fmt.Sprintf("%x", canary)) {
		t.Fatalf("the value was printed: %s", printed)
	}
	if !strings.Contains(printed, "[redacted]") {
		t.Fatalf("nothing stands for the value: %s", printed)
	}
}

func TestText_decodesFromJSON(t *testing.T) {
	var text secret.Text
	if err := json.Unmarshal([]byte(`"a\u0301 b"`), &text); err != nil {
		t.Fatal(err)
	}
	if got := text.Reveal(); got != "a\u0301 b" {
		t.Fatalf("got %q", got)
	}
	err := json.Unmarshal([]byte(`12345`), &text)
	if err == nil || strings.Contains(err.Error(), "12345") {
		t.Fatalf("a number must be refused without being repeated: %v", err)
	}
}
