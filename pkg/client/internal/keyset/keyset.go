// Package keyset fetches the JWK set of the service, for the packages of the client that verify what it signs. Each picks the
// keys it believes itself. It depends on the standard library alone.
package keyset

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// maxBytes bounds a JWK set, far over the handful of keys that the service publishes.
const maxBytes = 256 << 10

// Fetch answers the document at url. Anything but a 200 of at most 256 KiB is an error.
func Fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answer %d", response.StatusCode)
	}
	set, err := io.ReadAll(io.LimitReader(response.Body, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(set) > maxBytes {
		return nil, fmt.Errorf("longer than %d bytes", maxBytes)
	}
	return set, nil
}
