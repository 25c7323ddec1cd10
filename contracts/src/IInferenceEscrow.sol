// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What the escrow takes, says and refuses.
/// @dev Amounts are the token's base units. A `requestId` is keccak256 of the request's id in UTF-8,
/// never zero; a `batchId` is chosen by the payer, never zero, and is good for one settlement.
interface IInferenceEscrow {
    enum ReservationState {
        None, // never opened
        Open, // locked for a request that is being served
        Authorized, // served: the cost is fixed, only its settlement is missing
        Closed // settled, reclaimed or revoked; the request id is spent for ever
    }

    /// @dev One slot. `requested` is what the user asked to withdraw, from `withdrawableAt` on.
    struct Account {
        uint96 balance;
        uint96 requested;
        uint64 withdrawableAt;
    }

    /// @dev One slot. `deadline`: an open one can be authorised or settled, and an authorised one
    /// settled, before it; from then on it can be reclaimed.
    struct Reservation {
        uint96 amount;
        uint64 deadline;
        ReservationState state;
    }

    /// @dev `settledBlock` is zero while the id is free. `root` and `unclaimed`: see settleBatchToRoot.
    struct Batch {
        bytes32 root;
        uint96 unclaimed;
        uint64 settledBlock;
    }

    /// @dev What a user pays: from the reservation of that request, or, where `requestId` is zero,
    /// from the balance on credit.
    struct Charge {
        address user;
        bytes32 requestId;
        uint256 amount;
    }

    struct Payment {
        address provider;
        uint256 amount;
    }

    /// @dev One leaf of a funded root, with its proof.
    struct Claim {
        bytes32 batchId;
        uint256 index;
        address provider;
        uint256 amount;
        bytes32[] proof;
    }

    event Deposited(address indexed user, address indexed from, uint256 amount);
    event WithdrawalRequested(address indexed user, uint256 amount, uint256 withdrawableAt);
    event Withdrawn(address indexed user, address indexed to, uint256 amount);

    event ReservationOpened(
        address indexed user, bytes32 indexed requestId, uint256 amount, uint256 deadline
    );
    event ReservationShortened(address indexed user, bytes32 indexed requestId, uint256 deadline);
    event ReservationRevoked(address indexed user, bytes32 indexed requestId);
    event SettlementAuthorized(
        address indexed user,
        bytes32 indexed requestId,
        uint256 amount,
        uint256 returned,
        uint256 deadline
    );
    event ReservationReclaimed(address indexed user, bytes32 indexed requestId, uint256 amount);

    event Charged(
        bytes32 indexed batchId,
        address indexed user,
        bytes32 indexed requestId,
        uint256 amount,
        uint256 returned
    );
    event Paid(bytes32 indexed batchId, address indexed provider, uint256 amount);
    event PaymentDeferred(bytes32 indexed batchId, address indexed provider, uint256 amount);
    event FeeCharged(bytes32 indexed batchId, address indexed recipient, uint256 amount);
    event RootFunded(bytes32 indexed batchId, bytes32 root, uint256 total);
    event BatchSettled(bytes32 indexed batchId, uint256 charged, uint256 earned, uint256 fee);
    event Claimed(bytes32 indexed batchId, uint256 index, address indexed provider, uint256 amount);
    event ClaimableWithdrawn(address indexed owner, address indexed to, uint256 amount);

    event FeeChanged(address indexed recipient, uint256 maxFeeBps);
    event DailyLimitChanged(uint256 limit);
    event Rescued(address indexed token, address indexed to, uint256 amount);

    error ZeroAddress();
    error ZeroAmount();
    error ZeroId();
    error NoticeOutOfRange(uint256 notice);
    error InsufficientBalance(address user, uint256 available, uint256 wanted);
    error NotWithdrawable(uint256 available, uint256 withdrawableAt);
    error BadSignature();
    error BadReservationState(address user, bytes32 requestId, ReservationState state);
    error DeadlineOutOfRange(uint256 deadline);
    error DeadlinePassed(address user, bytes32 requestId);
    error NotYetReclaimable(uint256 deadline);
    error NotAReservation(address user);
    error BatchAlreadySettled(bytes32 batchId);
    error UnbalancedBatch(uint256 charged, uint256 paid);
    error BadRecipient(address recipient);
    error FeeTooHigh(uint256 fee, uint256 most);
    error DailyLimitExceeded(uint256 left, uint256 wanted);
    error AlreadyClaimed(bytes32 batchId, uint256 index);
    error BadProof();
    error RootExhausted(uint256 unclaimed, uint256 wanted);
    error GasTooLow();
    error NotSurplus(uint256 surplus, uint256 wanted);
}
