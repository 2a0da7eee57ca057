package api_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/salesexec/credentials/api"
)

// What is served is the contract at the project's root; go generate ./api/... makes it so.
func TestSpec_isTheContract(t *testing.T) {
	root, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(api.Spec, root) {
		t.Error("api/openapi.yaml differs from openapi.yaml: run go generate ./api/...")
	}
}
