package httpapi

import (
	"context"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// CreateUser makes a user with a temporary password.
func (s *Server) CreateUser(ctx context.Context, request api.CreateUserRequestObject) (api.CreateUserResponseObject, error) {
	body := request.Body
	reply := newReply(s.createdAnswer, api.CreateUserResponseObject.VisitCreateUserResponse)
	done, err := s.credentials.CreateUser(ctx, actorOf(ctx), credential.NewUser{
		ID: user.ID(deref(body.ID)), AccountID: deref(body.AccountID), Username: body.Username, Email: deref(body.Email), DisplayName: body.DisplayName,
		Team: user.Team(body.Team), Role: user.Role(body.Role), AlsoManages: teamsOf(body.AlsoManages), Reason: deref(body.Reason), Origin: originOf(ctx),
		Keep: reply.keep(ctx),
	})
	if err != nil {
		return nil, err
	}
	return reply.to(done), nil
}

func (s *Server) createdAnswer(done credential.Created) api.CreateUserResponseObject {
	shown := s.userOf(done.User, s.sessions.State(done.User, throttle.Standing{})) // nobody has tried to sign in yet
	return api.CreateUser201JSONResponse{
		Body:    api.CreatedUser{User: shown, TemporaryPassword: done.TemporaryPassword.Reveal(), ExpiresAt: *timeOrNull(&done.ExpiresAt)},
		Headers: api.CreateUser201ResponseHeaders{ETag: etag(done.User), Location: "/admin/users/" + string(done.User.ID)},
	}
}

// teamsOf reads a list of teams; nil stays nil, which is none given.
func teamsOf(names []api.Team) []user.Team {
	if names == nil {
		return nil
	}
	teams := make([]user.Team, len(names))
	for i, name := range names {
		teams[i] = user.Team(name)
	}
	return teams
}

// ChangeUser changes a user's place, name and status.
func (s *Server) ChangeUser(ctx context.Context, request api.ChangeUserRequestObject) (api.ChangeUserResponseObject, error) {
	body := request.Body
	wanted := credential.ChangeUser{
		Status: as[user.Status](body.Status), Role: as[user.Role](body.Role), Team: as[user.Team](body.Team), DisplayName: body.DisplayName,
		Reason: deref(body.Reason), IfMatch: precondition(request.Params.IfMatch), Origin: originOf(ctx),
	}
	if teams := teamsOf(body.AlsoManages); teams != nil {
		wanted.AlsoManages = &teams
	}
	standing, err := s.sessions.Standing(ctx, user.ID(request.ID))
	if err != nil {
		return nil, err
	}
	reply := newReply(func(changed user.User) api.ChangeUserResponseObject {
		shown := s.userOf(changed, s.sessions.State(changed, standing))
		return api.ChangeUser200JSONResponse{Body: shown, Headers: api.ChangeUser200ResponseHeaders{ETag: etag(changed)}}
	}, api.ChangeUserResponseObject.VisitChangeUserResponse)
	wanted.Keep = reply.keep(ctx)
	changed, err := s.credentials.ChangeUser(ctx, actorOf(ctx), user.ID(request.ID), wanted)
	if err != nil {
		return nil, err
	}
	return reply.to(changed), nil
}

// as reads an optional text as one of the domain's.
func as[T, F ~string](given *F) *T {
	if given == nil {
		return nil
	}
	value := T(*given)
	return &value
}

// UnlockUser lifts the delays after failed attempts.
func (s *Server) UnlockUser(ctx context.Context, request api.UnlockUserRequestObject) (api.UnlockUserResponseObject, error) {
	reply := newReply(func(unlocked user.User) api.UnlockUserResponseObject {
		shown := s.userOf(unlocked, s.sessions.State(unlocked, throttle.Standing{})) // what was counted is forgotten
		return api.UnlockUser200JSONResponse{Body: shown, Headers: api.UnlockUser200ResponseHeaders{ETag: etag(unlocked)}}
	}, api.UnlockUserResponseObject.VisitUnlockUserResponse)
	wanted := credential.Unlocking{IfMatch: precondition(request.Params.IfMatch), Origin: originOf(ctx), Keep: reply.keep(ctx)}
	if request.Body != nil {
		wanted.Reason = deref(request.Body.Reason)
	}
	unlocked, err := s.credentials.Unlock(ctx, actorOf(ctx), user.ID(request.ID), wanted)
	if err != nil {
		return nil, err
	}
	return reply.to(unlocked), nil
}

// EndUserSessions ends all sessions of a user.
func (s *Server) EndUserSessions(ctx context.Context, request api.EndUserSessionsRequestObject) (api.EndUserSessionsResponseObject, error) {
	if err := s.credentials.EndSessions(ctx, actorOf(ctx), user.ID(request.ID), originOf(ctx)); err != nil {
		return nil, err
	}
	return api.EndUserSessions204Response{}, nil
}

// attemptsOf shows attempts to sign in.
func attemptsOf(events []audit.Event) []api.SignInAttempt {
	shown := make([]api.SignInAttempt, len(events))
	for i, e := range events {
		shown[i] = api.SignInAttempt{
			At: e.At, Outcome: api.SignInAttemptOutcome(e.Outcome), Code: textOrNull(e.Details.Code), IP: e.Origin.IP, UserAgent: e.Origin.UserAgent,
		}
	}
	return shown
}

// ResolveUsername tells who held a username.
func (s *Server) ResolveUsername(ctx context.Context, request api.ResolveUsernameRequestObject) (api.ResolveUsernameResponseObject, error) {
	held, err := s.credentials.Attribute(ctx, actorOf(ctx), request.Username, request.Params.At)
	if err != nil {
		return nil, err
	}
	return api.ResolveUsername200JSONResponse{
		UserID: string(held.UserID), HeldFrom: held.From, HeldUntil: held.Until, CurrentUsername: held.CurrentUsername,
	}, nil
}
