package httpapi

import (
	"context"
	"strconv"
	"time"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/user"
)

// GetPasswordPolicy shows the rules in force, of the caller's account if there is a caller.
func (s *Server) GetPasswordPolicy(ctx context.Context, _ api.GetPasswordPolicyRequestObject) (api.GetPasswordPolicyResponseObject, error) {
	account := actorOf(ctx).Account
	policy := s.credentials.PolicyFor(account)
	username, err := s.usernameRules(account)
	if err != nil {
		return nil, err
	}
	return api.GetPasswordPolicy200JSONResponse{
		MinLength: policy.MinLength, MaxLength: password.MaxLength, LengthUnit: api.PasswordPolicyLengthUnitCodePointsAfterNFC,
		Blocklist: policy.Blocklist != nil, BreachedPasswords: policy.Breached != nil, ContextWords: true, BlockedWords: len(policy.BlockedWords),
		CompositionRules: api.PasswordPolicyCompositionRulesNone, Expiry: api.PasswordPolicyExpiryNone,
		Passwordrules: policy.PasswordRules(), Username: username,
	}, nil
}

func (s *Server) usernameRules(account user.Account) (api.UsernameRules, error) {
	naming, err := account.Naming.Compile()
	if err != nil {
		return api.UsernameRules{}, err
	}
	least, most := naming.Bounds()
	return api.UsernameRules{
		Kind: kindShown(account.Naming.Kind), Template: textOrNull(account.Naming.Template), Regex: textOrNull(account.Naming.Regex),
		Example: textOrNull(naming.Example()), MinLength: least, MaxLength: most, Allowed: naming.Guidance(),
		HoldDays: int(s.credentials.HoldTime(account) / (24 * time.Hour)),
	}, nil
}

// kindShown names the kind of an account that never chose one as well.
func kindShown(kind identifier.Kind) api.NamingKind {
	if kind == "" {
		kind = identifier.Either
	}
	return api.NamingKind(kind)
}

// CheckPassword says what the policy has against a password.
func (s *Server) CheckPassword(ctx context.Context, request api.CheckPasswordRequestObject) (api.CheckPasswordResponseObject, error) {
	if request.Body.Password == nil {
		return nil, &change.RejectedError{Fields: []change.FieldError{change.Required("/password", "Give the password to check.")}}
	}
	found, err := s.credentials.CheckPassword(actorOf(ctx), *request.Body.Password, request.Body.Username)
	if err != nil {
		return nil, err
	}
	result := api.PasswordCheckResult{Acceptable: len(found) == 0, Violations: make([]api.Violation, len(found))}
	for i, v := range found {
		result.Violations[i] = api.Violation{Code: api.FieldErrorCode(v.Code), Detail: v.Detail}
	}
	return api.CheckPassword200JSONResponse(result), nil
}

// GetAccountPasswordPolicy shows what an account asks of passwords itself.
func (s *Server) GetAccountPasswordPolicy(ctx context.Context, request api.GetAccountPasswordPolicyRequestObject) (api.GetAccountPasswordPolicyResponseObject, error) {
	account, err := s.credentials.Account(ctx, actorOf(ctx), deref(request.Params.AccountID))
	if err != nil {
		return nil, err
	}
	return api.GetAccountPasswordPolicy200JSONResponse{
		Body: policyShown(account.Policy), Headers: api.GetAccountPasswordPolicy200ResponseHeaders{ETag: versionTag(account.PolicyVersion)},
	}, nil
}

// SetAccountPasswordPolicy replaces what an account asks of passwords itself.
func (s *Server) SetAccountPasswordPolicy(ctx context.Context, request api.SetAccountPasswordPolicyRequestObject) (api.SetAccountPasswordPolicyResponseObject, error) {
	body := request.Body
	wanted := user.Policy{MinLength: given(body.MinLength), BlockedWords: body.BlockedWords, HoldDays: given(body.UsernameHoldDays), MaxPlaces: given(body.MaxPlaces)}
	if body.ResetMethods != nil {
		wanted.ResetMethods = converted[user.ResetMethod](body.ResetMethods)
	}
	account, err := s.credentials.SetPolicy(ctx, actorOf(ctx), wanted, setting(ctx, request.Params.AccountID, request.Params.IfMatch))
	if err != nil {
		return nil, err
	}
	return api.SetAccountPasswordPolicy200JSONResponse{
		Body: policyShown(account.Policy), Headers: api.SetAccountPasswordPolicy200ResponseHeaders{ETag: versionTag(account.PolicyVersion)},
	}, nil
}

// GetNamingRule shows what an account asks of usernames.
func (s *Server) GetNamingRule(ctx context.Context, request api.GetNamingRuleRequestObject) (api.GetNamingRuleResponseObject, error) {
	account, err := s.credentials.Account(ctx, actorOf(ctx), deref(request.Params.AccountID))
	if err != nil {
		return nil, err
	}
	return api.GetNamingRule200JSONResponse{
		Body: namingShown(account.Naming), Headers: api.GetNamingRule200ResponseHeaders{ETag: versionTag(account.NamingVersion)},
	}, nil
}

// SetNamingRule replaces what an account asks of usernames.
func (s *Server) SetNamingRule(ctx context.Context, request api.SetNamingRuleRequestObject) (api.SetNamingRuleResponseObject, error) {
	body := request.Body
	wanted := identifier.Rule{
		Kind: identifier.Kind(deref(body.Kind)), Template: deref(body.Template), Regex: deref(body.Regex),
		MinLength: given(body.MinLength), MaxLength: given(body.MaxLength), Reserved: body.Reserved,
	}
	account, err := s.credentials.SetNaming(ctx, actorOf(ctx), wanted, setting(ctx, request.Params.AccountID, request.Params.IfMatch))
	if err != nil {
		return nil, err
	}
	return api.SetNamingRule200JSONResponse{
		Body: namingShown(account.Naming), Headers: api.SetNamingRule200ResponseHeaders{ETag: versionTag(account.NamingVersion)},
	}, nil
}

func setting(ctx context.Context, accountID, ifMatch *string) credential.Setting {
	return credential.Setting{AccountID: deref(accountID), IfMatch: precondition(ifMatch), Origin: originOf(ctx)}
}

// given returns 0 for what was not given. A given 0 becomes a number that is out of all bounds, so that it is refused.
func given(number *int) int {
	switch {
	case number == nil:
		return 0
	case *number == 0:
		return -1
	}
	return *number
}

func numberOrNull(number int) *int {
	if number == 0 {
		return nil
	}
	return &number
}

// converted turns texts of one sort into those of another; nil becomes an empty list.
func converted[To, From ~string](list []From) []To {
	texts := make([]To, len(list))
	for i, text := range list {
		texts[i] = To(text)
	}
	return texts
}

func policyShown(p user.Policy) api.AccountPasswordPolicy {
	methods := p.ResetMethods
	if len(methods) == 0 {
		methods = user.ResetMethods()
	}
	return api.AccountPasswordPolicy{
		MinLength: numberOrNull(p.MinLength), BlockedWords: converted[string](p.BlockedWords), UsernameHoldDays: numberOrNull(p.HoldDays),
		ResetMethods: converted[api.ResetMethod](methods), MaxPlaces: numberOrNull(p.MaxPlaces),
	}
}

func namingShown(r identifier.Rule) api.NamingRule {
	return api.NamingRule{
		Kind: kindShown(r.Kind), Template: textOrNull(r.Template), Regex: textOrNull(r.Regex),
		MinLength: numberOrNull(r.MinLength), MaxLength: numberOrNull(r.MaxLength), Reserved: converted[string](r.Reserved),
	}
}

func versionTag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// LookUpUsername tells whether a name can be given.
func (s *Server) LookUpUsername(ctx context.Context, request api.LookUpUsernameRequestObject) (api.LookUpUsernameResponseObject, error) {
	state, err := s.credentials.LookUpName(ctx, actorOf(ctx), request.Username, deref(request.Params.AccountID))
	if err != nil {
		return nil, err
	}
	shown := api.UsernameState{
		Username: request.Username, Status: api.UsernameStateStatus(state.Availability), HeldUntil: timeOrNull(state.HeldUntil),
		UserID: textOrNull(string(state.UserID)), Violations: make([]api.Violation, len(state.Violations)),
	}
	for i, v := range state.Violations {
		shown.Violations[i] = api.Violation{Code: api.FieldErrorCode(v.Code), Detail: v.Detail}
	}
	return api.LookUpUsername200JSONResponse(shown), nil
}

// ReleaseHeldUsername lets anybody take a name that is held.
func (s *Server) ReleaseHeldUsername(ctx context.Context, request api.ReleaseHeldUsernameRequestObject) (api.ReleaseHeldUsernameResponseObject, error) {
	err := s.credentials.ReleaseName(ctx, actorOf(ctx), request.Username, deref(request.Params.AccountID), originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.ReleaseHeldUsername204Response{}, nil
}
