// Everything an application needs: open a model over peers, talk to it, or be a peer.
#pragma once

#include <farmesh/errors.hpp>
#include <farmesh/model.hpp>
#include <farmesh/peer.hpp>
#include <farmesh/result.hpp>
#include <farmesh/sampling.hpp>
#include <farmesh/session.hpp>
#include <farmesh/types.hpp>
