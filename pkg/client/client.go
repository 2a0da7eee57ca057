// Package client calls the SalesExec credentials service.
//
// A Client has one method for each operation of the contract, openapi.yaml; each answers the typed body, with the ETag
// where there is one, or an *Error. The types and the Core that it calls are generated from the contract. Passwords and
// tokens are plain strings here: do not log the requests and answers that hold them.
//
// WithClientCredentials and WithSession get, keep and renew the access tokens of a service and of a user. Calls that have no
// effect twice are repeated when the network or the service fails for a moment; see WithRetries.
//
// It depends on the standard library, golang.org/x/sync and the generator's runtime alone, so that other services can import it.
package client

//go:generate go tool -modfile=../../internal/tools/go.mod oapi-codegen -config client.yaml ../../openapi.yaml

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client calls one deployment of the service. Make it with New; any number of goroutines may use it.
type Client struct {
	core   *Core
	caller *caller
}

// OnBehalfOf returns a context for calls that a service makes for a user: the service's audit trail keeps the user's id as
// a claim of the caller. It gives the caller nothing, and a call with a user's token is refused with it.
func OnBehalfOf(ctx context.Context, userID string) context.Context {
	return context.WithValue(ctx, actingFor{}, userID)
}

// WithIdempotencyKey returns a context for one change of credentials and its repetitions: the same call with the same key within
// 24 hours changes nothing again, and gets the first answer. Without it the Client makes a key for each call, which its own
// retries share; a program that wants to repeat a call after it was restarted stores a key before the first try. Make a new
// key for every change, a UUID say: 16 to 128 printable ASCII characters.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyed{}, key)
}

// describe adds what a context says about the request.
func describe(ctx context.Context, request *http.Request) error {
	if key := mannerOf(ctx).key; key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	if userID, ok := ctx.Value(actingFor{}).(string); ok && userID != "" {
		request.Header.Set("X-On-Behalf-Of", userID)
	}
	return nil
}

// New returns a Client of the deployment at baseURL, an absolute http or https URL. It returns an error for any other.
func New(baseURL string, opts ...Option) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("client: the base URL is not an absolute http or https URL")
	}
	set := settings{caller: newCaller()}
	core, err := NewClient(baseURL, WithHTTPClient(set.caller.next), WithRequestEditorFn(describe), func(core *Core) error {
		set.core = core
		for _, o := range opts {
			if err := o.apply(&set); err != nil {
				return err
			}
		}
		set.caller.next, core.Client = core.Client, set.caller
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c := &Client{core: core, caller: set.caller}
	if set.source != nil {
		c.caller.source = set.source(c)
	}
	return c, nil
}

// Token answers the access token that calls are made with now, for a call to another service that takes it. It is empty for a
// Client that has no source of tokens.
func (c *Client) Token(ctx context.Context) (string, error) {
	if c.caller.source == nil {
		return "", nil
	}
	token, err := c.caller.source.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("client: get a token: %w", err)
	}
	return token, nil
}

// SignIn starts a session of a user.
func (c *Client) SignIn(ctx context.Context, username, password string) (*SessionTokens, error) {
	return body[SessionTokens](c.core.SignIn(withoutToken(ctx), SignIn{Username: username, Password: password}))
}

// RefreshSession gets new tokens for a session. It is safe to repeat: a refresh token is good until its successor was used.
func (c *Client) RefreshSession(ctx context.Context, refreshToken string) (*SessionTokens, error) {
	return body[SessionTokens](c.core.RefreshSession(again(ctx), SessionRefresh{RefreshToken: refreshToken}))
}

// SignOut ends the session of the token.
func (c *Client) SignOut(ctx context.Context) error {
	return nothing(c.core.SignOut(ctx))
}

// GetMe answers the user of the token, and the ETag of the credentials.
func (c *Client) GetMe(ctx context.Context) (*Me, string, error) {
	return tagged[Me](c.core.GetMe(ctx))
}

// GetMyCredentials answers the credentials of the user of the token, and their ETag.
func (c *Client) GetMyCredentials(ctx context.Context) (*Credentials, string, error) {
	return tagged[Credentials](c.core.GetMyCredentials(ctx))
}

// ChangeMyCredentials changes the credentials of the user of the token, if they still have the ETag ifMatch or it is
// empty. It answers them as they are then, with new tokens for the session if the password changed, and their new ETag.
func (c *Client) ChangeMyCredentials(ctx context.Context, change OwnCredentialsChange, ifMatch string) (*ChangedCredentials, string, error) {
	params := &ChangeMyCredentialsParams{IfMatch: optional(ifMatch)}
	changed, etag, err := tagged[ChangedCredentials](c.core.ChangeMyCredentials(once(ctx), params, change))
	if own, ok := c.caller.source.(*session); ok && err == nil {
		err = own.changed(ctx, changed)
	}
	return changed, etag, err
}

// RedeemPasswordReset sets the password that the user chose, for the token of a mailed reset link.
func (c *Client) RedeemPasswordReset(ctx context.Context, token, newPassword string) error {
	return nothing(c.core.RedeemPasswordReset(once(withoutToken(ctx)), PasswordRedemption{Token: token, NewPassword: newPassword}))
}

// ConfirmEmail lets a pending e-mail address take effect, for the token that was mailed to it.
func (c *Client) ConfirmEmail(ctx context.Context, token string) (*EmailConfirmed, error) {
	return body[EmailConfirmed](c.core.ConfirmEmail(once(withoutToken(ctx)), LinkToken{Token: token}))
}

// RevertCredentials undoes a change that was not the user's, for the token of its notice.
func (c *Client) RevertCredentials(ctx context.Context, token string) (*CredentialsReverted, error) {
	return body[CredentialsReverted](c.core.RevertCredentials(once(withoutToken(ctx)), LinkToken{Token: token}))
}

// GetPasswordPolicy answers the rules for passwords and usernames: with a token those of its account.
func (c *Client) GetPasswordPolicy(ctx context.Context) (*PasswordPolicy, error) {
	return body[PasswordPolicy](c.core.GetPasswordPolicy(ctx))
}

// ListUsers answers one page of the users that the caller may look at.
func (c *Client) ListUsers(ctx context.Context, params ListUsersParams) (*UserList, error) {
	return body[UserList](c.core.ListUsers(ctx, &params))
}

// GetUser answers a user that the caller may look at, and the ETag of the credentials.
func (c *Client) GetUser(ctx context.Context, id string) (*User, string, error) {
	return tagged[User](c.core.GetUser(ctx, id))
}

// CreateUser makes a user. Its temporary password is in this answer and never shown again. It answers the ETag as well.
func (c *Client) CreateUser(ctx context.Context, creation UserCreation) (*CreatedUser, string, error) {
	return tagged[CreatedUser](c.core.CreateUser(once(ctx), creation))
}

// ChangeUser changes the place, the name and the status of a user whom the caller manages, if the credentials still have the
// ETag ifMatch or it is empty. It answers the user as it is then, and its new ETag.
func (c *Client) ChangeUser(ctx context.Context, id string, change UserChange, ifMatch string) (*User, string, error) {
	return tagged[User](c.core.ChangeUser(once(ctx), id, &ChangeUserParams{IfMatch: optional(ifMatch)}, change))
}

// UnlockUser lifts the delays after failed attempts of a user whom the caller manages, if the credentials still have the ETag
// ifMatch or it is empty. It answers the user, which tells what still keeps it from signing in, and its ETag.
func (c *Client) UnlockUser(ctx context.Context, id, reason, ifMatch string) (*User, string, error) {
	return tagged[User](c.core.UnlockUser(once(ctx), id, &UnlockUserParams{IfMatch: optional(ifMatch)}, Unlock{Reason: optional(reason)}))
}

// EndUserSessions ends all sessions of a user whom the caller manages.
func (c *Client) EndUserSessions(ctx context.Context, id string) error {
	return nothing(c.core.EndUserSessions(ctx, id))
}

// GetUsernameHistory answers the names of a user, the newest first.
func (c *Client) GetUsernameHistory(ctx context.Context, id string) (*UsernameHistory, error) {
	return body[UsernameHistory](c.core.GetUsernameHistory(ctx, id))
}

// ChangeUserCredentials changes the credentials of a user whom the caller manages, if they still have the ETag ifMatch
// or it is empty. It answers them as they are then, and their new ETag.
func (c *Client) ChangeUserCredentials(ctx context.Context, id string, change CredentialsChange, ifMatch string) (*Credentials, string, error) {
	params := &ChangeUserCredentialsParams{IfMatch: optional(ifMatch)}
	return tagged[Credentials](c.core.ChangeUserCredentials(once(ctx), id, params, change))
}

// ResetPassword resets the password of a user whom the caller manages, if the credentials still have the ETag ifMatch or
// it is empty. The zero PasswordReset asks for a temporary password, which is in this answer and never shown again. It
// answers the new ETag as well.
func (c *Client) ResetPassword(ctx context.Context, id string, reset PasswordReset, ifMatch string) (*PasswordResetResult, string, error) {
	params := &ResetPasswordParams{IfMatch: optional(ifMatch)}
	return tagged[PasswordResetResult](c.core.ResetPassword(once(ctx), id, params, reset))
}

// ResolveUsername answers who held a username at a time; the zero Time asks for who holds it now or held it last.
func (c *Client) ResolveUsername(ctx context.Context, username string, at time.Time) (*UsernameHolder, error) {
	params := &ResolveUsernameParams{}
	if !at.IsZero() {
		params.At = &at
	}
	return body[UsernameHolder](c.core.ResolveUsername(ctx, username, params))
}

// ListAuditEvents answers one page of what happened, the newest first.
func (c *Client) ListAuditEvents(ctx context.Context, params ListAuditEventsParams) (*AuditEventList, error) {
	return body[AuditEventList](c.core.ListAuditEvents(ctx, &params))
}

// ExportAuditEvents streams all events that match, one JSON object a line, as credentialsd audit verify reads it. The
// caller reads it to the end and closes it; a stream without a last line {"end":...} was broken off. It may take longer than
// the HTTP client allows for a call: a default client is given no limit here, ctx ends it.
func (c *Client) ExportAuditEvents(ctx context.Context, params ListAuditEventsParams) (io.ReadCloser, error) {
	return c.stream("application/x-ndjson", func(core *Core, accept RequestEditorFn) (*http.Response, error) {
		return core.ListAuditEvents(in(ctx, manner{streamed: true}), &params, accept)
	})
}

// ReviewCredentials answers one page of the credential review of the users that the caller may look at; the first has a summary of
// them all, unless params.Summary is false: with a million users it takes minutes.
func (c *Client) ReviewCredentials(ctx context.Context, params ReviewCredentialsParams) (*CredentialReview, error) {
	return body[CredentialReview](c.patient().ReviewCredentials(ctx, &params))
}

// ExportCredentialReview streams the review of all users that match as CSV. The caller reads it to the end and closes it; reading
// one that was broken off ends with an error. As with ExportAuditEvents, ctx alone limits how long it takes.
func (c *Client) ExportCredentialReview(ctx context.Context, params ReviewCredentialsParams) (io.ReadCloser, error) {
	return c.stream("text/csv", func(core *Core, accept RequestEditorFn) (*http.Response, error) {
		return core.ReviewCredentials(in(ctx, manner{streamed: true}), &params, accept)
	})
}

// patient is the core without a limit of a default HTTP client on how long a call takes: ctx ends it.
func (c *Client) patient() *Core {
	core, sender := *c.core, *c.caller
	if plain, ok := sender.next.(*http.Client); ok {
		unlimited := *plain
		unlimited.Timeout = 0
		sender.next = &unlimited
	}
	core.Client = &sender
	return &core
}

// stream calls for an answer of the media type that the caller reads as it comes.
func (c *Client) stream(media string, call func(core *Core, accept RequestEditorFn) (*http.Response, error)) (io.ReadCloser, error) {
	response, err := call(c.patient(), func(_ context.Context, request *http.Request) error {
		request.Header.Set("Accept", media)
		return nil
	})
	if err == nil && response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	return nil, nothing(response, err)
}

// CheckAuditIntegrity checks the hash chain of an account: of the caller's own if account is empty.
func (c *Client) CheckAuditIntegrity(ctx context.Context, account string) (*AuditIntegrity, error) {
	return body[AuditIntegrity](c.patient().CheckAuditIntegrity(ctx, &CheckAuditIntegrityParams{AccountID: optional(account)}))
}

// LockUser ends every session and token of a user whom the caller manages, disables the password and voids mailed links, if
// the credentials still have the ETag ifMatch or it is empty. A reset undoes it. It answers the new ETag as well.
func (c *Client) LockUser(ctx context.Context, id, reason, ifMatch string) (*SecurityLockResult, string, error) {
	params := &LockUserParams{IfMatch: optional(ifMatch)}
	return tagged[SecurityLockResult](c.core.LockUser(once(ctx), id, params, SecurityLock{Reason: reason}))
}

// VerifyCredentials tells whether a username and a password are right, and whose they are.
func (c *Client) VerifyCredentials(ctx context.Context, typed Verification) (*VerificationResult, error) {
	return body[VerificationResult](c.core.VerifyCredentials(ctx, typed))
}

// GetSsfConfiguration answers where streams of Shared Signals are managed.
func (c *Client) GetSsfConfiguration(ctx context.Context) (*SsfConfiguration, error) {
	return body[SsfConfiguration](c.core.GetSsfConfiguration(withoutToken(ctx)))
}

// CreateStream creates the service's stream of events; one with the code stream_exists is there already.
func (c *Client) CreateStream(ctx context.Context, wanted StreamWanted) (*StreamConfiguration, error) {
	return body[StreamConfiguration](c.core.CreateStream(ctx, wanted))
}

// ListStreams answers the service's streams: one or none.
func (c *Client) ListStreams(ctx context.Context) ([]StreamConfiguration, error) {
	list, err := body[StreamConfigurations](c.core.ReadStreams(ctx, &ReadStreamsParams{}))
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// GetStream answers the configuration of a stream of the service.
func (c *Client) GetStream(ctx context.Context, id string) (*StreamConfiguration, error) {
	return body[StreamConfiguration](c.core.ReadStreams(ctx, &ReadStreamsParams{StreamID: &id}))
}

// UpdateStream changes those members of a stream that are there.
func (c *Client) UpdateStream(ctx context.Context, change StreamChange) (*StreamConfiguration, error) {
	return body[StreamConfiguration](c.core.UpdateStream(ctx, change))
}

// ReplaceStream changes a stream to what change says: what is not there is taken away.
func (c *Client) ReplaceStream(ctx context.Context, change StreamChange) (*StreamConfiguration, error) {
	return body[StreamConfiguration](c.core.ReplaceStream(ctx, change))
}

// DeleteStream deletes a stream with what waits on it.
func (c *Client) DeleteStream(ctx context.Context, id string) error {
	return nothing(c.core.DeleteStream(ctx, &DeleteStreamParams{StreamID: id}))
}

// PollStream acknowledges events and answers the next ones; it waits for some if there are none, unless told otherwise. Package
// signals makes more of it.
func (c *Client) PollStream(ctx context.Context, id string, poll Poll) (*Polled, error) {
	return body[Polled](c.core.PollStream(ctx, id, poll))
}

// GetStreamStatus answers whether a stream delivers.
func (c *Client) GetStreamStatus(ctx context.Context, id string) (*StreamStatus, error) {
	return body[StreamStatus](c.core.GetStreamStatus(ctx, &GetStreamStatusParams{StreamID: id}))
}

// SetStreamStatus enables, pauses or disables a stream.
func (c *Client) SetStreamStatus(ctx context.Context, status StreamStatus) (*StreamStatus, error) {
	return body[StreamStatus](c.core.SetStreamStatus(ctx, status))
}

// AddSubject lets a stream hear of a user or an account.
func (c *Client) AddSubject(ctx context.Context, addition SubjectAddition) error {
	return nothing(c.core.AddSubject(ctx, addition))
}

// RemoveSubject lets a stream hear of a user or an account no longer.
func (c *Client) RemoveSubject(ctx context.Context, removal SubjectRemoval) error {
	return nothing(c.core.RemoveSubject(ctx, removal))
}

// VerifyStream asks for a verification event on a stream.
func (c *Client) VerifyStream(ctx context.Context, request VerificationRequest) error {
	return nothing(c.core.VerifyStream(ctx, request))
}

// BeginPasswordResetJob begins a job that resets many users. accountID is needed by clients that are registered for every
// account; empty is the own one. Use PreviewPasswordResetJob to see first whom it would reset.
func (c *Client) BeginPasswordResetJob(ctx context.Context, accountID string, wanted PasswordResetJobWanted) (*PasswordResetJob, error) {
	wanted.DryRun = nil
	return body[PasswordResetJob](c.core.BeginPasswordResetJob(once(ctx), &BeginPasswordResetJobParams{AccountID: optional(accountID)}, wanted))
}

// PreviewPasswordResetJob tells what BeginPasswordResetJob would do with the same wish, one page of it: nothing is done.
func (c *Client) PreviewPasswordResetJob(ctx context.Context, params BeginPasswordResetJobParams, wanted PasswordResetJobWanted) (*PasswordResetJobPreview, error) {
	dry := true
	wanted.DryRun = &dry
	return body[PasswordResetJobPreview](c.core.BeginPasswordResetJob(ctx, &params, wanted))
}

// ListPasswordResetJobs answers one page of the jobs that the caller may look at, the newest first.
func (c *Client) ListPasswordResetJobs(ctx context.Context, params ListPasswordResetJobsParams) (*PasswordResetJobList, error) {
	return body[PasswordResetJobList](c.core.ListPasswordResetJobs(ctx, &params))
}

// GetPasswordResetJob answers how far a job is.
func (c *Client) GetPasswordResetJob(ctx context.Context, job string) (*PasswordResetJob, error) {
	return body[PasswordResetJob](c.core.GetPasswordResetJob(ctx, job))
}

// ListPasswordResetJobResults answers one page of what came of each user of a job.
func (c *Client) ListPasswordResetJobResults(ctx context.Context, job string, params ListPasswordResetJobResultsParams) (*PasswordResetJobResults, error) {
	return body[PasswordResetJobResults](c.core.ListPasswordResetJobResults(ctx, job, &params))
}

// CancelPasswordResetJob ends a job; who was reset stays so.
func (c *Client) CancelPasswordResetJob(ctx context.Context, job string) (*PasswordResetJob, error) {
	return body[PasswordResetJob](c.core.CancelPasswordResetJob(ctx, job))
}

// HandOutTemporaryPasswords answers up to limit temporary passwords of a job, 50 if it is 0, and forgets them: each is
// answered once. Call it until it answers none.
func (c *Client) HandOutTemporaryPasswords(ctx context.Context, job string, limit int) (*TemporaryPasswords, error) {
	params := &HandOutTemporaryPasswordsParams{}
	if limit > 0 {
		params.Limit = &limit
	}
	return body[TemporaryPasswords](c.core.HandOutTemporaryPasswords(once(ctx), job, params))
}

// IssueToken gets a token for a service: with the wanted scopes, or with all it has when none is given.
func (c *Client) IssueToken(ctx context.Context, clientID, clientSecret string, scopes ...string) (*ServiceToken, error) {
	prove := func(_ context.Context, request *http.Request) error {
		// RFC 6749 section 2.3.1: both are form-encoded before they are joined.
		request.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(clientSecret))
		return nil
	}
	wanted := TokenRequest{GrantType: "client_credentials", Scope: optional(strings.Join(scopes, " "))}
	return body[ServiceToken](c.core.IssueTokenWithFormdataBody(again(ctx), wanted, prove))
}

// GetJwks answers the keys that verify access tokens.
func (c *Client) GetJwks(ctx context.Context) (*Jwks, error) {
	return body[Jwks](c.core.GetJwks(withoutToken(ctx)))
}

// GetIssuerMetadata answers where the issuer's keys and token endpoint are.
func (c *Client) GetIssuerMetadata(ctx context.Context) (*IssuerMetadata, error) {
	return body[IssuerMetadata](c.core.GetIssuerMetadata(withoutToken(ctx)))
}

// CheckPassword answers what the policy has against a password if the user of the token chose it now, together with the
// username if there is one. Nothing is changed.
func (c *Client) CheckPassword(ctx context.Context, password, username string) (*PasswordCheckResult, error) {
	return body[PasswordCheckResult](c.core.CheckPassword(ctx, PasswordCheck{Password: &password, Username: optional(username)}))
}

// ListMySessions answers one page of the live sessions of the user of the token, the newest first.
func (c *Client) ListMySessions(ctx context.Context, params ListMySessionsParams) (*SessionList, error) {
	return body[SessionList](c.core.ListMySessions(ctx, &params))
}

// EndMySession ends a session of the user of the token.
func (c *Client) EndMySession(ctx context.Context, sessionID string) error {
	return nothing(c.core.EndMySession(ctx, sessionID))
}

// EndMyOtherSessions ends all sessions of the user of the token but the token's, and answers how many there were.
func (c *Client) EndMyOtherSessions(ctx context.Context) (*EndedSessions, error) {
	return body[EndedSessions](c.core.EndMyOtherSessions(ctx))
}

// ListMyActivity answers one page of what happened to the credentials of the user of the token, the newest first.
func (c *Client) ListMyActivity(ctx context.Context, params ListMyActivityParams) (*ActivityList, error) {
	return body[ActivityList](c.core.ListMyActivity(ctx, &params))
}

// GetAccountPasswordPolicy answers an account's own rules for passwords, and their ETag. Only a service that is registered
// for every account names one; to the methods below this applies as well.
func (c *Client) GetAccountPasswordPolicy(ctx context.Context, accountID string) (*AccountPasswordPolicy, string, error) {
	params := &GetAccountPasswordPolicyParams{AccountID: optional(accountID)}
	return tagged[AccountPasswordPolicy](c.core.GetAccountPasswordPolicy(ctx, params))
}

// SetAccountPasswordPolicy replaces an account's own rules for passwords, if they still have the ETag ifMatch or it is empty.
// It answers them as they are then, and their new ETag.
func (c *Client) SetAccountPasswordPolicy(ctx context.Context, accountID string, policy AccountPasswordPolicyChange, ifMatch string) (*AccountPasswordPolicy, string, error) {
	params := &SetAccountPasswordPolicyParams{AccountID: optional(accountID), IfMatch: optional(ifMatch)}
	return tagged[AccountPasswordPolicy](c.core.SetAccountPasswordPolicy(ctx, params, policy))
}

// GetNamingRule answers an account's rule for usernames, and its ETag.
func (c *Client) GetNamingRule(ctx context.Context, accountID string) (*NamingRule, string, error) {
	return tagged[NamingRule](c.core.GetNamingRule(ctx, &GetNamingRuleParams{AccountID: optional(accountID)}))
}

// SetNamingRule replaces an account's rule for usernames, if it still has the ETag ifMatch or that is empty. It answers the
// rule as it is then, and its new ETag.
func (c *Client) SetNamingRule(ctx context.Context, accountID string, rule NamingRuleChange, ifMatch string) (*NamingRule, string, error) {
	params := &SetNamingRuleParams{AccountID: optional(accountID), IfMatch: optional(ifMatch)}
	return tagged[NamingRule](c.core.SetNamingRule(ctx, params, rule))
}

// LookUpUsername answers whether a username or e-mail address can be given in an account.
func (c *Client) LookUpUsername(ctx context.Context, accountID, username string) (*UsernameState, error) {
	return body[UsernameState](c.core.LookUpUsername(ctx, username, &LookUpUsernameParams{AccountID: optional(accountID)}))
}

// ReleaseHeldUsername lets anybody take a name that is held for a user whom the caller manages.
func (c *Client) ReleaseHeldUsername(ctx context.Context, accountID, username string) error {
	return nothing(c.core.ReleaseHeldUsername(ctx, username, &ReleaseHeldUsernameParams{AccountID: optional(accountID)}))
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
