package httpapi

import (
	"context"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/credential"
)

// RedeemPasswordReset sets the password that the holder of a reset link chose.
func (s *Server) RedeemPasswordReset(ctx context.Context, request api.RedeemPasswordResetRequestObject) (api.RedeemPasswordResetResponseObject, error) {
	reply := newReply(func(credential.Applied) api.RedeemPasswordResetResponseObject {
		return api.RedeemPasswordReset204Response{}
	},
		api.RedeemPasswordResetResponseObject.VisitRedeemPasswordResetResponse)
	used := credential.Redemption{Token: request.Body.Token, Origin: originOf(ctx), Keep: reply.keep(ctx)}
	if err := s.credentials.RedeemReset(ctx, used, request.Body.NewPassword); err != nil {
		return nil, err
	}
	return reply.to(credential.Applied{}), nil
}

// ConfirmEmail lets a pending address take effect.
func (s *Server) ConfirmEmail(ctx context.Context, request api.ConfirmEmailRequestObject) (api.ConfirmEmailResponseObject, error) {
	reply := newReply(func(done credential.Applied) api.ConfirmEmailResponseObject {
		return api.ConfirmEmail200JSONResponse{Username: done.User.Username, Email: done.User.Email}
	}, api.ConfirmEmailResponseObject.VisitConfirmEmailResponse)
	done, err := s.credentials.ConfirmEmail(ctx, credential.Redemption{Token: request.Body.Token, Origin: originOf(ctx), Keep: reply.keep(ctx)})
	if err != nil {
		return nil, err
	}
	return reply.to(done), nil
}

// RevertCredentials undoes what the user says was somebody else's doing.
func (s *Server) RevertCredentials(ctx context.Context, request api.RevertCredentialsRequestObject) (api.RevertCredentialsResponseObject, error) {
	reply := newReply(func(done credential.Applied) api.RevertCredentialsResponseObject {
		return api.RevertCredentials200JSONResponse{
			Username: done.User.Username, Email: textOrNull(done.User.Email), SessionsEnded: done.SessionsEnded,
		}
	}, api.RevertCredentialsResponseObject.VisitRevertCredentialsResponse)
	done, err := s.credentials.Revert(ctx, credential.Redemption{Token: request.Body.Token, Origin: originOf(ctx), Keep: reply.keep(ctx)})
	if err != nil {
		return nil, err
	}
	return reply.to(done), nil
}
