// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BoundedTransfer} from "./BoundedTransfer.sol";
import {IInferenceEscrow} from "./IInferenceEscrow.sol";
import {AccessControlDefaultAdminRules} from
    "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Holds what users pay for inference until providers have earned it.
/// @notice A user's deposit is a balance. It is spent on credit (the settler charges it for work
/// already served) or locked in a reservation for one request, which the user signs. A batch
/// charges many users and pays many providers, directly or through the root of a Merkle tree.
/// @dev Money is always in one of four places, and `owed` is their sum: balances, reservations,
/// unclaimed roots, claimables. contracts/README.md holds the states and the reasons.
contract InferenceEscrow is
    IInferenceEscrow,
    AccessControlDefaultAdminRules,
    EIP712,
    Pausable,
    ReentrancyGuardTransient
{
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    bytes32 public constant SETTLER_ROLE = keccak256("SETTLER_ROLE");
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    bytes32 public constant RESERVATION_TYPEHASH =
        keccak256("Reservation(address user,bytes32 requestId,uint256 amount,uint64 deadline)");

    /// @notice The farthest deadline a reservation may have when it is opened.
    uint256 public constant MAX_RESERVATION = 30 days;
    /// @notice How long a cancelled reservation can still be settled for what was served.
    uint256 public constant CANCEL_NOTICE = 1 hours;
    /// @notice How long an authorised settlement waits for its batch: a weekly one, and a spare.
    uint256 public constant SETTLEMENT_WINDOW = 14 days;
    /// @notice No setting can let the fee pass this share of a batch.
    uint256 public constant FEE_BPS_LIMIT = 2_000;

    IERC20 public immutable token;
    /// @notice Seconds between asking for a withdrawal and taking it.
    uint256 public immutable withdrawalNotice;

    /// @notice What the contract owes to everybody; never more than it holds.
    uint256 public owed;
    /// @notice Payments that could not be delivered, and fees, by whom they belong to.
    mapping(address owner => uint256) public claimable;

    mapping(address user => Account) private _accounts;
    mapping(address user => mapping(bytes32 requestId => Reservation)) private _reservations;
    mapping(bytes32 batchId => Batch) private _batches;
    mapping(bytes32 batchId => mapping(uint256 word => uint256)) private _claimedBits;

    address public feeRecipient;
    uint96 public maxFeeBps;

    uint96 private _dailyLimit = type(uint96).max;
    uint96 private _spentToday;
    uint64 private _today;

    /// @param admin Grants the roles and sets fee and limit; changes hands in two steps,
    /// `adminDelay` seconds apart. It cannot touch anybody's money.
    /// @param notice Longer than the settler's longest pause between two batches.
    constructor(IERC20 token_, address admin, uint48 adminDelay, uint256 notice)
        AccessControlDefaultAdminRules(adminDelay, admin)
        EIP712("FarMesh InferenceEscrow", "1")
    {
        if (address(token_).code.length == 0) revert ZeroAddress();
        if (notice < 1 hours || notice > 30 days) revert NoticeOutOfRange(notice);
        token = token_;
        withdrawalNotice = notice;
    }

    // --- deposits and withdrawals ---------------------------------------------------------------

    function deposit(uint256 amount) external {
        depositFor(msg.sender, amount);
    }

    /// @notice The caller's tokens become `user`'s balance.
    function depositFor(address user, uint256 amount) public nonReentrant whenNotPaused {
        _deposit(user, amount);
    }

    /// @notice Deposits in one transaction, with an EIP-2612 permit of the caller for this contract.
    /// @dev A permit that somebody used up beforehand has left its allowance, which is all we need.
    function depositWithPermit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
        whenNotPaused
    {
        try IERC20Permit(address(token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {}
            catch {}
        _deposit(msg.sender, amount);
    }

    /// @notice Asks to withdraw `amount`, more than the balance if one likes; zero withdraws the wish.
    /// @dev The settler may charge the balance until the notice is over: that is how what was served
    /// gets paid. From then on the requested part is out of its reach. Raising the amount starts the
    /// notice anew; lowering it does not.
    function requestWithdrawal(uint256 amount) external {
        Account storage account = _accounts[msg.sender];
        uint96 wanted = amount.toUint96();
        if (wanted > account.requested) {
            account.withdrawableAt = (block.timestamp + withdrawalNotice).toUint64();
        }
        account.requested = wanted;
        emit WithdrawalRequested(msg.sender, wanted, account.withdrawableAt);
    }

    function withdraw(address to, uint256 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        Account storage account = _accounts[msg.sender];
        uint256 available = _protectedOf(account);
        if (amount > available) revert NotWithdrawable(available, account.withdrawableAt);
        account.balance -= uint96(amount);
        account.requested -= uint96(amount);
        _send(to, amount);
        emit Withdrawn(msg.sender, to, amount);
    }

    // --- reservations ---------------------------------------------------------------------------

    /// @notice Locks `amount` of `user`'s balance for one request, until `deadline`.
    /// @dev Only the settler opens them. If the user could, he could lock up what he already spent on
    /// credit just while it is to be charged. The signature is the user's EIP-712 `Reservation`, or
    /// what his contract wallet accepts for it.
    function openReservation(
        address user,
        bytes32 requestId,
        uint256 amount,
        uint64 deadline,
        bytes calldata signature
    ) external onlyRole(SETTLER_ROLE) nonReentrant whenNotPaused {
        if (requestId == 0) revert ZeroId();
        if (amount == 0) revert ZeroAmount();
        if (deadline <= block.timestamp || deadline > block.timestamp + MAX_RESERVATION) {
            revert DeadlineOutOfRange(deadline);
        }
        Reservation storage reservation = _reservations[user][requestId];
        _requireState(reservation, ReservationState.None, user, requestId);
        bytes32 digest = hashReservation(user, requestId, amount, deadline);
        if (!SignatureChecker.isValidSignatureNowCalldata(user, digest, signature)) {
            revert BadSignature();
        }
        Account storage account = _accounts[user];
        if (amount > account.balance) revert InsufficientBalance(user, account.balance, amount);
        account.balance -= uint96(amount);
        reservation.amount = uint96(amount);
        reservation.deadline = deadline;
        reservation.state = ReservationState.Open;
        emit ReservationOpened(user, requestId, amount, deadline);
    }

    /// @notice The user is done with a request. Unopened, it can never be opened; open, its deadline
    /// moves to an hour from now, time for the settler to authorise what was served.
    function cancelReservation(bytes32 requestId) external {
        if (requestId == 0) revert ZeroId();
        Reservation storage reservation = _reservations[msg.sender][requestId];
        if (reservation.state == ReservationState.None) {
            reservation.state = ReservationState.Closed;
            emit ReservationRevoked(msg.sender, requestId);
            return;
        }
        _requireState(reservation, ReservationState.Open, msg.sender, requestId);
        uint256 soon = block.timestamp + CANCEL_NOTICE;
        if (soon < reservation.deadline) reservation.deadline = soon.toUint64();
        emit ReservationShortened(msg.sender, requestId, reservation.deadline);
    }

    /// @notice Fixes what served requests cost, before their deadlines: the rest returns to their
    /// users at once, and the cost stays locked for `SETTLEMENT_WINDOW`, waiting for its batch.
    function authorizeSettlements(Charge[] calldata charges)
        external
        onlyRole(SETTLER_ROLE)
        nonReentrant
        whenNotPaused
    {
        uint64 deadline = (block.timestamp + SETTLEMENT_WINDOW).toUint64();
        for (uint256 i = 0; i < charges.length; ++i) {
            Charge calldata charge = charges[i];
            if (charge.requestId == 0) revert NotAReservation(charge.user);
            if (charge.amount == 0) revert ZeroAmount();
            Reservation storage reservation = _reservations[charge.user][charge.requestId];
            _requireState(reservation, ReservationState.Open, charge.user, charge.requestId);
            uint256 returned = _take(reservation, charge);
            reservation.amount = uint96(charge.amount);
            reservation.deadline = deadline;
            reservation.state = ReservationState.Authorized;
            emit SettlementAuthorized(charge.user, charge.requestId, charge.amount, returned, deadline);
        }
    }

    /// @notice Returns a reservation whose deadline passed to its user's balance. Anybody may call it.
    function reclaimReservation(address user, bytes32 requestId) external nonReentrant {
        Reservation storage reservation = _reservations[user][requestId];
        ReservationState state = reservation.state;
        if (state == ReservationState.None || state == ReservationState.Closed) {
            revert BadReservationState(user, requestId, state);
        }
        if (block.timestamp < reservation.deadline) revert NotYetReclaimable(reservation.deadline);
        uint96 amount = reservation.amount;
        _close(reservation);
        _accounts[user].balance += amount;
        emit ReservationReclaimed(user, requestId, amount);
    }

    // --- settlement -----------------------------------------------------------------------------

    /// @notice Charges many users and pays many providers, once per `batchId`.
    /// @dev The charges must add up to the payments and the fee. A charge of zero on a reservation
    /// refunds it. A recipient the token refuses does not stop the others: his pay waits for him in
    /// `claimable`. A user who cannot pay stops the batch: without him the sums would not meet.
    function settleBatch(
        bytes32 batchId,
        Charge[] calldata charges,
        Payment[] calldata payments,
        uint256 fee
    ) external onlyRole(SETTLER_ROLE) nonReentrant whenNotPaused {
        uint256 charged = _charge(batchId, charges, fee);
        uint256 paid = 0;
        uint256 delivered = 0;
        for (uint256 i = 0; i < payments.length; ++i) {
            Payment calldata payment = payments[i];
            if (payment.amount == 0) revert ZeroAmount();
            paid += payment.amount;
            if (_pay(batchId, payment.provider, payment.amount)) delivered += payment.amount;
        }
        if (paid + fee != charged) revert UnbalancedBatch(charged, paid + fee);
        if (delivered > 0) owed -= delivered;
        emit BatchSettled(batchId, charged, paid, fee);
    }

    /// @notice Charges many users and sets `total` aside for the providers in the tree of `root`.
    /// @dev `leafOf` tells how a leaf is made. Claims can never take more than `total`, and a wrong
    /// tree can only spend its own batch.
    function settleBatchToRoot(
        bytes32 batchId,
        Charge[] calldata charges,
        bytes32 root,
        uint256 total,
        uint256 fee
    ) external onlyRole(SETTLER_ROLE) nonReentrant whenNotPaused {
        if (root == 0) revert ZeroId();
        if (total == 0) revert ZeroAmount();
        uint256 charged = _charge(batchId, charges, fee);
        if (total + fee != charged) revert UnbalancedBatch(charged, total + fee);
        _batches[batchId].root = root;
        _batches[batchId].unclaimed = total.toUint96();
        emit RootFunded(batchId, root, total);
        emit BatchSettled(batchId, charged, total, fee);
    }

    /// @notice Pays the leaves given to their providers, each once. Anybody may call it.
    function claim(Claim[] calldata claims) external nonReentrant {
        uint256 delivered = 0;
        for (uint256 i = 0; i < claims.length; ++i) {
            Claim calldata c = claims[i];
            _spendLeaf(c);
            emit Claimed(c.batchId, c.index, c.provider, c.amount);
            if (_pay(c.batchId, c.provider, c.amount)) delivered += c.amount;
        }
        if (delivered > 0) owed -= delivered;
    }

    /// @notice Takes what could not be delivered, or fees, to an address of the owner's choice.
    function withdrawClaimable(address to) external nonReentrant {
        uint256 amount = claimable[msg.sender];
        if (amount == 0) revert ZeroAmount();
        claimable[msg.sender] = 0;
        _send(to, amount);
        emit ClaimableWithdrawn(msg.sender, to, amount);
    }

    // --- administration -------------------------------------------------------------------------

    /// @notice Stops deposits, reservations and settlement. The exits stay open: no key can hold
    /// anybody's money back.
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    /// @notice Who receives fees, and the largest share of a batch they may be, in 1/10,000.
    function setFee(address recipient, uint256 feeBps) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (feeBps > FEE_BPS_LIMIT) revert FeeTooHigh(feeBps, FEE_BPS_LIMIT);
        if (feeBps > 0 && recipient == address(0)) revert ZeroAddress();
        feeRecipient = recipient;
        maxFeeBps = uint96(feeBps);
        emit FeeChanged(recipient, feeBps);
    }

    /// @notice The most all batches of a UTC day may charge: what a stolen settler key could take.
    function setDailyLimit(uint256 limit) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _dailyLimit = limit.toUint96();
        emit DailyLimitChanged(limit);
    }

    /// @notice Returns tokens that were sent here by mistake; of our own token only what nobody is
    /// owed.
    function rescue(IERC20 stray, address to, uint256 amount)
        external
        onlyRole(DEFAULT_ADMIN_ROLE)
        nonReentrant
    {
        if (address(stray) == address(token)) {
            uint256 surplus = token.balanceOf(address(this)) - owed;
            if (amount > surplus) revert NotSurplus(surplus, amount);
        }
        stray.safeTransfer(to, amount);
        emit Rescued(address(stray), to, amount);
    }

    // --- observers ------------------------------------------------------------------------------

    function accountOf(address user) external view returns (Account memory) {
        return _accounts[user];
    }

    /// @notice What the settler could charge on credit right now.
    function chargeableOf(address user) public view returns (uint256) {
        Account storage account = _accounts[user];
        return account.balance - _protectedOf(account);
    }

    /// @notice How far a user may be served on credit: nothing he has asked to withdraw counts.
    function creditOf(address user) external view returns (uint256) {
        Account storage account = _accounts[user];
        uint256 balance = account.balance;
        return balance > account.requested ? balance - account.requested : 0;
    }

    function reservationOf(address user, bytes32 requestId)
        external
        view
        returns (Reservation memory)
    {
        return _reservations[user][requestId];
    }

    function batchOf(bytes32 batchId) external view returns (Batch memory) {
        return _batches[batchId];
    }

    function isClaimed(bytes32 batchId, uint256 index) external view returns (bool) {
        return _claimedBits[batchId][index >> 8] & (1 << (index & 0xff)) != 0;
    }

    /// @notice The limit of a day, and what is left of today's.
    function dailyLimit() public view returns (uint256 limit, uint256 left) {
        limit = _dailyLimit;
        uint256 spent = _spentSoFar();
        left = limit > spent ? limit - spent : 0;
    }

    /// @notice The digest a user signs to have a reservation opened.
    function hashReservation(address user, bytes32 requestId, uint256 amount, uint64 deadline)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(abi.encode(RESERVATION_TYPEHASH, user, requestId, amount, deadline))
        );
    }

    /// @notice A leaf of a batch's tree. Hashed twice, so that no inner node can pass for one; bound
    /// to chain, escrow and batch, so that it is good nowhere else.
    function leafOf(bytes32 batchId, uint256 index, address provider, uint256 amount)
        public
        view
        returns (bytes32)
    {
        bytes32 inner =
            keccak256(abi.encode(block.chainid, address(this), batchId, index, provider, amount));
        return keccak256(bytes.concat(inner));
    }

    // --- movements ------------------------------------------------------------------------------

    function _deposit(address user, uint256 amount) private {
        if (user == address(0)) revert ZeroAddress();
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received == 0) revert ZeroAmount();
        owed += received;
        _accounts[user].balance += received.toUint96();
        emit Deposited(user, msg.sender, received);
    }

    /// @dev Marks the batch as settled, charges its users and books its fee; returns the sum.
    function _charge(bytes32 batchId, Charge[] calldata charges, uint256 fee)
        private
        returns (uint256 charged)
    {
        if (batchId == 0) revert ZeroId();
        if (_batches[batchId].settledBlock != 0) revert BatchAlreadySettled(batchId);
        _batches[batchId].settledBlock = uint64(block.number);
        for (uint256 i = 0; i < charges.length; ++i) {
            Charge calldata charge = charges[i];
            uint256 returned = charge.requestId == 0 ? _chargeCredit(charge) : _chargeReserved(charge);
            charged += charge.amount;
            emit Charged(batchId, charge.user, charge.requestId, charge.amount, returned);
        }
        _countDay(charged);
        uint256 most = charged * maxFeeBps / 10_000;
        if (fee > most) revert FeeTooHigh(fee, most);
        if (fee > 0) {
            claimable[feeRecipient] += fee;
            emit FeeCharged(batchId, feeRecipient, fee);
        }
    }

    function _chargeCredit(Charge calldata charge) private returns (uint256 returned) {
        if (charge.amount == 0) revert ZeroAmount();
        uint256 available = chargeableOf(charge.user);
        if (charge.amount > available) {
            revert InsufficientBalance(charge.user, available, charge.amount);
        }
        _accounts[charge.user].balance -= uint96(charge.amount);
        return 0;
    }

    function _chargeReserved(Charge calldata charge) private returns (uint256 returned) {
        Reservation storage reservation = _reservations[charge.user][charge.requestId];
        ReservationState state = reservation.state;
        if (state != ReservationState.Open && state != ReservationState.Authorized) {
            revert BadReservationState(charge.user, charge.requestId, state);
        }
        returned = _take(reservation, charge);
        _close(reservation);
    }

    /// @dev Checks that `charge` is in time and within the reservation; returns the excess to its user.
    function _take(Reservation storage reservation, Charge calldata charge)
        private
        returns (uint256 returned)
    {
        if (block.timestamp >= reservation.deadline) {
            revert DeadlinePassed(charge.user, charge.requestId);
        }
        uint256 reserved = reservation.amount;
        if (charge.amount > reserved) {
            revert InsufficientBalance(charge.user, reserved, charge.amount);
        }
        returned = reserved - charge.amount;
        if (returned > 0) _accounts[charge.user].balance += uint96(returned);
    }

    function _close(Reservation storage reservation) private {
        reservation.amount = 0;
        reservation.deadline = 0;
        reservation.state = ReservationState.Closed;
    }

    function _countDay(uint256 charged) private {
        (, uint256 left) = dailyLimit();
        if (charged > left) revert DailyLimitExceeded(left, charged);
        _spentToday = uint96(_spentSoFar() + charged);
        _today = uint64(block.timestamp / 1 days);
    }

    function _spentSoFar() private view returns (uint256) {
        return _today == block.timestamp / 1 days ? _spentToday : 0;
    }

    function _spendLeaf(Claim calldata c) private {
        Batch storage batch = _batches[c.batchId];
        uint256 word = c.index >> 8;
        uint256 bit = 1 << (c.index & 0xff);
        uint256 bits = _claimedBits[c.batchId][word];
        if (bits & bit != 0) revert AlreadyClaimed(c.batchId, c.index);
        bytes32 leaf = leafOf(c.batchId, c.index, c.provider, c.amount);
        if (batch.root == 0 || !MerkleProof.verifyCalldata(c.proof, batch.root, leaf)) {
            revert BadProof();
        }
        if (c.amount > batch.unclaimed) revert RootExhausted(batch.unclaimed, c.amount);
        _claimedBits[c.batchId][word] = bits | bit;
        batch.unclaimed -= uint96(c.amount);
    }

    /// @dev Delivers, or sets aside in `claimable`; true if it was delivered. The caller lowers
    /// `owed` by what was.
    function _pay(bytes32 batchId, address provider, uint256 amount) private returns (bool delivered) {
        if (provider == address(0) || provider == address(this)) revert BadRecipient(provider);
        if (gasleft() < BoundedTransfer.REQUIRED_GAS) revert GasTooLow();
        delivered = BoundedTransfer.attempt(token, provider, amount);
        if (delivered) {
            emit Paid(batchId, provider, amount);
        } else {
            claimable[provider] += amount;
            emit PaymentDeferred(batchId, provider, amount);
        }
    }

    function _send(address to, uint256 amount) private {
        if (to == address(0) || to == address(this)) revert BadRecipient(to);
        owed -= amount;
        token.safeTransfer(to, amount);
    }

    /// @dev What its user may withdraw now, and the settler may not charge.
    function _protectedOf(Account storage account) private view returns (uint256) {
        if (account.requested == 0 || block.timestamp < account.withdrawableAt) return 0;
        return account.requested < account.balance ? account.requested : account.balance;
    }

    function _requireState(
        Reservation storage reservation,
        ReservationState wanted,
        address user,
        bytes32 requestId
    ) private view {
        if (reservation.state != wanted) {
            revert BadReservationState(user, requestId, reservation.state);
        }
    }
}
