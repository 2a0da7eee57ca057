package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/salesexec/credentials/pkg/client"
)

// A service resets the password of a user. Its token is got, kept and renewed by the Client.
func Example() {
	service := httptest.NewServer(&stub{}) // stands in for https://credentials.example.com
	defer service.Close()

	c, err := client.New(service.URL, client.WithClientCredentials("help-desk", "the client's secret", "credentials:reset"))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	reset, etag, err := c.ResetPassword(ctx, "u1", client.PasswordReset{}, "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reset.Username, "has a temporary password:", reset.TemporaryPassword != nil)
	fmt.Println("the credentials are now at", etag)
	// Output:
	// maria has a temporary password: true
	// the credentials are now at "7"
}

// An error tells what went wrong by its code, and which member of the request is to blame.
func ExampleError() {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"type":"urn:salesexec:problem:policy_violation","title":"The new password does not meet the policy","status":422,
			"code":"policy_violation","instance":"urn:request:1",
			"errors":[{"pointer":"/new_password","code":"too_short","detail":"Use at least 15 characters."}]}`)
	}))
	defer service.Close()
	c, err := client.New(service.URL, client.WithToken(token))
	if err != nil {
		log.Fatal(err)
	}

	password := "short"
	_, _, err = c.ChangeMyCredentials(context.Background(), client.OwnCredentialsChange{NewPassword: &password}, "")
	if client.CodeOf(err) != client.ProblemCodePolicyViolation {
		log.Fatal(err)
	}
	problem, _ := errors.AsType[*client.Error](err)
	for _, field := range problem.Errors {
		fmt.Println(field.Pointer, field.Code, "-", field.Detail)
	}
	// Output: /new_password too_short - Use at least 15 characters.
}

// A program keeps a user signed in: the tokens of the session are refreshed, and stored whenever they are replaced.
func ExampleWithSession() {
	service := httptest.NewServer(&stub{})
	defer service.Close()
	ctx := context.Background()

	anyone, err := client.New(service.URL)
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := anyone.SignIn(ctx, "maria", "her password")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(service.URL, client.WithSession(*tokens, func(_ context.Context, tokens client.SessionTokens) error {
		return nil // store tokens.RefreshToken as safely as a password
	}))
	if err != nil {
		log.Fatal(err)
	}
	me, _, err := c.GetMe(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("signed in as", me.DisplayName)
	// Output: signed in as Maria
}
